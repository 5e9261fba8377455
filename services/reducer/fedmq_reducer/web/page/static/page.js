// The page works without this; with it, it is live and never reloads.
(() => {
  const status = document.getElementById("status");
  const start = document.getElementById("start");

  // -- times --------------------------------------------------------------------------------------------------------

  const two = (number) => String(number).padStart(2, "0");

  const left = (at) => {
    const seconds = Math.max(0, Math.round((at - Date.now()) / 1000));
    if (seconds === 0) return "time is up";
    const minutes = Math.floor(seconds / 60);
    const clock = minutes < 60 ? minutes : `${Math.floor(minutes / 60)}:${two(minutes % 60)}`;
    return `${clock}:${two(seconds % 60)} left`;
  };

  const forms = {
    time: (at) => at.toLocaleTimeString(),
    date: (at) => at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }),
    left: (at) => left(at.getTime()),
  };

  const showTimes = () => {
    for (const element of document.querySelectorAll("time[data-form]")) {
      element.textContent = forms[element.dataset.form](new Date(element.dateTime));
    }
  };

  // -- news ---------------------------------------------------------------------------------------------------------

  const show = (html) => {
    const focused = status.contains(document.activeElement) ? document.activeElement.id : "";
    const scrolled = [...status.querySelectorAll(".scroll")].map((box) => [box.scrollTop, box.scrollLeft]);
    status.innerHTML = html;
    status.querySelectorAll(".scroll").forEach((box, index) => {
      [box.scrollTop, box.scrollLeft] = scrolled[index] ?? [0, 0];
    });
    showTimes();
    if (focused) document.getElementById(focused)?.focus();
  };

  let stream = null;

  const listen = () => {
    if (stream || document.hidden) return;
    stream = new EventSource("/page/stream");
    stream.addEventListener("status", (event) => show(JSON.parse(event.data)));
  };

  const hangUp = () => {
    stream?.close();
    stream = null;
  };

  // -- forms --------------------------------------------------------------------------------------------------------

  const headers = { "X-Requested-With": "fetch" };

  const send = (form, submitter) => {
    const body = new URLSearchParams(new FormData(form, submitter));
    return fetch(form.action, { method: "POST", body, headers });
  };

  const showFault = (sentence) => {
    const place = start.querySelector("[role=alert]") ?? start.querySelector("form").insertAdjacentElement("afterbegin", document.createElement("p"));
    Object.assign(place, { className: "fault", role: "alert", textContent: sentence });
  };

  const reason = async (answer) => {
    try {
      return (await answer.json()).error;
    } catch {
      return `the reducer answered ${answer.status}`;
    }
  };

  const submitStart = async (form) => {
    const button = form.querySelector("#go");
    button.disabled = true;
    try {
      const answer = await send(form);
      if (answer.headers.get("Content-Type")?.startsWith("text/html")) {
        start.innerHTML = await answer.text();
        ready();
        start.querySelector("[aria-invalid], [role=alert], [role=status][tabindex]")?.focus();
      } else {
        showFault(await reason(answer));
      }
    } catch {
      showFault("The reducer can't be reached. Nothing was started; try again.");
    } finally {
      button.disabled = false;
    }
  };

  const submitStop = async (form, submitter) => {
    if (submitter.value === "now" && !confirm("Stop it now? Updates of the open round are lost.")) return;
    submitter.disabled = true;
    const answer = await send(form, submitter).catch(() => null);
    if (!answer?.ok) submitter.disabled = false;
    const fault = answer ? await reason(answer) : "the reducer can't be reached";
    document.getElementById("stop-fault").textContent = answer?.ok ? "" : `It was not stopped: ${fault}.`;
  };

  document.addEventListener("submit", (event) => {
    const form = event.target;
    event.preventDefault();
    if (form.id === "start-form") submitStart(form);
    else submitStop(form, event.submitter);
  });

  // -- seeds --------------------------------------------------------------------------------------------------------

  const upload = async (file) => {
    const status = document.getElementById("uploaded");
    const choice = document.getElementById("f-seed");
    status.textContent = `uploading ${file.name} …`;
    try {
      const answer = await fetch("/models", { method: "POST", body: file });
      if (!answer.ok) throw new Error(await reason(answer));
      const { model } = await answer.json();
      if (![...choice.options].some((option) => option.value === model)) choice.add(new Option(`${model} · ${file.name}`, model));
      choice.value = model;
      status.textContent = `${file.name} is ${model}`;
    } catch (error) {
      status.textContent = `${file.name} was not accepted: ${error.message}`;
    }
  };

  document.addEventListener("change", (event) => {
    if (event.target.id === "upload" && event.target.files.length) upload(event.target.files[0]);
  });

  // -- the rest -----------------------------------------------------------------------------------------------------

  const toggleTheme = () => {
    const root = document.documentElement;
    const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = isDark ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
  };

  const ready = () => {
    showTimes();
    for (const part of document.querySelectorAll(".upload")) part.hidden = false;
  };

  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  document.getElementById("theme").addEventListener("click", toggleTheme);
  document.addEventListener("visibilitychange", () => (document.hidden ? hangUp() : listen()));
  addEventListener("pagehide", hangUp);
  addEventListener("pageshow", listen);
  setInterval(showTimes, 1000);
  ready();
  listen();
})();
