// What the server can't do: listen to its news, keep clocks running, and remember light or dark.
(() => {
  let stream = null;

  // Not before the first page is there: until then Dash has nothing to update. Only while somebody looks: a
  // browser has six connections to a server, and tabs in the background would hold them all.
  const listen = () => {
    if (stream || document.hidden || !document.querySelector("#body .card")) return;
    stream = new EventSource("stream");
    stream.onmessage = (message) => window.dash_clientside.set_props("tick", { data: JSON.parse(message.data) });
  };

  const hangUp = () => {
    stream?.close();
    stream = null;
  };

  const two = (number) => String(number).padStart(2, "0");

  const left = (at) => {
    const seconds = Math.max(0, Math.round((at - Date.now()) / 1000));
    if (seconds === 0) return "time is up";
    const hours = Math.floor(seconds / 3600);
    const clock = `${hours ? `${hours}:` : ""}${hours ? two(Math.floor(seconds / 60) % 60) : Math.floor(seconds / 60)}:${two(seconds % 60)}`;
    return `${clock} left`;
  };

  const forms = {
    time: (at) => at.toLocaleTimeString(),
    date: (at) => at.toLocaleString([], { dateStyle: "medium", timeStyle: "short" }),
    left: (at) => left(at.getTime()),
  };

  const showTimes = (root) => {
    for (const element of root.querySelectorAll("time[data-form]")) {
      const text = forms[element.dataset.form](new Date(element.dateTime));
      if (element.textContent !== text) element.textContent = text;
    }
  };

  let here = "";

  // On a narrow screen the chosen page's link may be out of sight.
  const showPlace = () => {
    const link = document.querySelector("#nav .here");
    if (!link || link.href === here) return;
    here = link.href;
    link.parentElement.scrollLeft = link.offsetLeft - 40;
  };

  // Dash's own controls have no names for those who can't see them, and its copy button none for the keyboard.
  const nameControls = () => {
    for (const control of document.querySelectorAll(".control")) {
      const { id, textContent } = control.querySelector("label");
      const button = control.querySelector("button.dash-dropdown");
      if (button && !button.getAttribute("aria-labelledby")?.startsWith(id)) {
        button.setAttribute("aria-labelledby", `${id} ${button.getAttribute("aria-labelledby") ?? ""}`);
      }
      const target = control.querySelector(".dash-dropdown-focus-target");
      if (target?.hasAttribute("aria-hidden")) {
        target.removeAttribute("aria-hidden");
        target.setAttribute("aria-label", textContent);
      }
    }
    for (const copy of document.querySelectorAll(".copy:not([role])")) {
      copy.setAttribute("role", "button");
      copy.setAttribute("aria-label", "Copy the command");
      copy.tabIndex = 0;
    }
  };

  const themes = { auto: "dark", dark: "light", light: "auto" };

  const toggleTheme = () => {
    const root = document.documentElement;
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    const next = root.dataset.theme === "auto" ? (isDark ? "light" : "dark") : themes[root.dataset.theme];
    root.dataset.theme = next;
    localStorage.setItem("theme", next);
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? hangUp() : listen()));
  addEventListener("pagehide", hangUp);

  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target.classList?.contains("copy")) event.target.click();
  });

  document.addEventListener("click", (event) => {
    if (event.target.closest?.("#theme")) toggleTheme();
  });

  // One observer for all that the server sends, one clock for the countdowns.
  const observer = new MutationObserver(() => {
    listen();
    showPlace();
    nameControls();
    showTimes(document);
  });
  observer.observe(document.documentElement, { childList: true, subtree: true });
  setInterval(() => showTimes(document), 1000);
})();
