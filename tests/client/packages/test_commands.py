"""A package's commands: what they receive, what they return, and how a faulty one fails."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from client.packages.commanding import BLOB, MODEL, TRAIN, job, made, run, weights
from fedmq import tensors
from fedmq_client import Client

# The client starts a package's commands as processes.
pytestmark = pytest.mark.real


def test_train_is_given_a_list_of_arrays_and_the_configuration_and_gives_back_both(tmp_path: Path) -> None:
    folder = made(tmp_path)
    result, validated = run(job(folder, config={"epochs": 2}, validate=True))
    assert (result.outcome, result.examples, result.metrics) == ("done", 12, {"loss": 0.5}), result
    delta = weights(result)
    np.testing.assert_array_equal(delta["0002/kernel"], [[1, 1], [1, 1]])
    assert delta["0003/count"] == 2
    np.testing.assert_array_equal(delta["0010/bias"], [5, 6])
    seen = json.loads((folder / "seen.json").read_text())
    assert seen["cwd"] == str(folder)
    assert seen["names"] == ["0", "1", "2"]
    assert seen["kernel"] == [[1, 2], [3, 4]]
    assert (Path(seen["source"]).suffix, Path(seen["target"]).suffix, seen["before"]) == (".npz", ".npz", 0)
    assert seen["config"] == {"epochs": 2}
    assert not Path(seen["source"]).parent.exists()
    assert [one.examples for one in validated] == [None]


def test_the_environment_tells_of_the_client_and_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FEDN_DATA_PATH", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    data = tmp_path / "data.csv"
    client = Client("north", data=data, ordinal=3, count=5, random_seed=8, tasks=("validate",))
    folder = made(tmp_path)
    result, _ = run(job(folder, client=client))
    assert result.outcome == "done", result
    seen = json.loads((folder / "seen.json").read_text())
    assert seen["env"] == {
        "FEDN_DATA_PATH": str(data),
        "FEDMQ_CLIENT": "north",
        "FEDMQ_ORDINAL": "3",
        "FEDMQ_COUNT": "5",
        "FEDMQ_EVALUATOR": "1",
        "FEDMQ_RANDOM_SEED": "8",
        "FEDMQ_SESSION": "s",
        "FEDMQ_ROUND": "2",
        "FEDMQ_ROUNDS": "3",
        "FEDMQ_SEED": "11",
    }
    assert Path(seen["python"]).parent == Path(sys.executable).parent
    run(job(folder))
    assert "FEDN_DATA_PATH" not in json.loads((folder / "seen.json").read_text())["env"]


def test_each_client_has_its_number_in_variables_of_fedn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", "/data/clients/{n}/mnist.pt")
    monkeypatch.setenv("FEDN_DATA_SPLIT_INDEX", "{n}")
    folder = made(tmp_path)
    for ordinal in range(2):
        result, _ = run(job(folder, client=Client("c", ordinal=ordinal, count=2)))
        seen = json.loads((folder / "seen.json").read_text())["env"]
        assert seen["FEDN_DATA_PATH"] == f"/data/clients/{ordinal + 1}/mnist.pt"
        assert seen["FEDN_DATA_SPLIT_INDEX"] == str(ordinal + 1)
        assert result.notes == ()


def test_an_evaluators_number_is_its_name_and_never_that_of_a_client_that_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDN_DATA_PATH", f"{tmp_path}/clients/{{n}}/mnist.pt")
    code = "import json, os, sys\njson.dump({'path': os.environ['FEDN_DATA_PATH']}, open(sys.argv[2], 'w'))"
    folder = made(tmp_path, "test_set: true\nentry_points: {validate: python validate.py}", validate=code)
    evaluator = Client("evaluator", tasks=("validate",), count=2)
    result, _ = run(job(folder, "validate", client=evaluator))
    path = tmp_path / "clients" / "evaluator" / "mnist.pt"
    assert result.metrics == {"path": str(path)}
    [note] = result.notes
    assert note == f"the evaluator's FEDN_DATA_PATH, {path}, is not there ({{n}} is its name): put its test set there"
    path.parent.mkdir(parents=True)
    path.touch()
    assert not run(job(folder, "validate", client=evaluator))[0].notes, "the advice"
    monkeypatch.setenv("FEDN_DATA_PATH", "s3://bucket/{n}/mnist.pt")
    assert not run(job(folder, "validate", client=evaluator))[0].notes, "nobody looks whether a URL is there"


def test_the_data_that_a_client_was_started_with_have_its_number_too(tmp_path: Path) -> None:
    folder = made(tmp_path)
    run(job(folder, client=Client("c", ordinal=1, count=2, data=Path("/data/{n}.pt"))))
    assert json.loads((folder / "seen.json").read_text())["env"]["FEDN_DATA_PATH"] == "/data/2.pt"


def test_clients_that_seem_to_train_on_one_part_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDN_DATA_PATH", raising=False)
    folder = made(tmp_path)
    (folder / "data" / "clients" / "1").mkdir(parents=True)
    of_two = Client("c", count=2)
    [note] = run(job(folder, client=of_two))[0].notes
    assert note == (
        "without FEDN_DATA_PATH=/…/clients/{n}/…, commands written for FEDn train every client on data/clients/1"
    )
    monkeypatch.setenv("FEDN_DATA_PATH", "/data/mnist.pt")
    assert not run(job(folder, client=of_two))[0].notes, "the sandbox says so once"
    assert not run(job(folder, client=Client("c", count=2, data=tmp_path)))[0].notes
    assert not run(job(folder, client=Client("c", count=1)))[0].notes


def test_validate_writes_metrics_without_saying_of_how_many_examples(tmp_path: Path) -> None:
    result, _ = run(job(made(tmp_path), "validate"))
    assert (result.outcome, result.examples) == ("done", None), result
    source, target = result.metrics.pop("argv")
    assert result.metrics == {"accuracy": 0.75, "report": "fine"}
    assert (Path(source).suffix, Path(target).suffix) == (".npz", "")


def test_what_a_package_has_no_command_for_it_does_not_do(tmp_path: Path) -> None:
    folder = made(tmp_path, "entry_points: {train: python train.py}")
    result, validated = run(job(folder, validate=True))
    assert (result.outcome, [each.metrics for each in validated]) == ("done", [{}]), result
    assert "has no validate" in validated[0].reason
    assert "has no validate" in run(job(folder, "validate"))[0].reason
    (tmp_path / "only").mkdir()
    folder = made(tmp_path / "only", "entry_points: {validate: python validate.py}")
    assert run(job(folder, "validate"))[0].outcome == "done"
    assert run(job(folder))[0].reason == "fedn.yaml names no train command"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("pass", "the train command wrote no model to out.npz"),
        ("sys.exit(3)", r"the train command \(python train.py\) ended with exit code 3"),
        ("os.kill(os.getpid(), 11)", r"the train command \(python train.py\) was killed by signal 11"),
        ("open(target, 'w').write('x'); meta({'num_examples': 1})", "wrote is no .npz of plain arrays: it is text"),
        ("np.savez(target, **{'0': np.array([{}])}); meta({})", "wrote is no .npz of plain arrays"),
        ("np.savez(target, a=1); meta({})", "wrote arrays named a to out.npz, and the model has 0 .0002/kernel., 1 "),
        ("np.savez(target, *arrays.values()); meta({})", "wrote arrays named arr_0, arr_1, arr_2 to out.npz, and the "),
        ("np.savez(target); meta({})", "wrote arrays named nothing to out.npz"),
        ("np.savez(target, **arrays)", "the train command wrote no out.npz-metadata: JSON with num_examples"),
        ("np.savez(target, **arrays); open(target + '-metadata', 'w').write('{')", "is no JSON"),
        ("np.savez(target, **arrays); meta([1])", "wrote list to out.npz-metadata: write an object"),
        ("np.savez(target, **arrays); meta({'epochs': 1})", "OUT-metadata has no num_examples"),
        ("np.savez(target, **arrays); meta({'num_examples': 1.5})", "train returned 1.5 as examples"),
        ("arrays['0'] = 1; np.savez(target, **arrays); meta({'num_examples': 1})", r"0002/kernel has shape \(\)"),
    ],
)
def test_a_command_that_gives_back_what_is_no_model_costs_its_own_job(tmp_path: Path, code: str, words: str) -> None:
    prelude = (
        "import json, os, sys\nimport numpy as np\nsource, target = sys.argv[1:]\n"
        "arrays = dict(np.load(source))\n"
        "def meta(value): json.dump(value, open(target + '-metadata', 'w'))\n"
    )
    folder = made(tmp_path, train=prelude + code + "\n")
    result, _ = run(job(folder))
    assert result.outcome == "failed"
    assert re.search(words, result.reason), result.reason
    assert "Traceback" not in result.traceback


def test_a_number_of_examples_may_be_written_as_a_float(tmp_path: Path) -> None:
    folder = made(tmp_path, train=TRAIN.replace('"num_examples": 12', '"num_examples": 12.0'))
    assert run(job(folder))[0].examples == 12


def test_validate_that_writes_no_json_fails(tmp_path: Path) -> None:
    result, _ = run(job(made(tmp_path, validate="print('nothing')"), "validate"))
    assert result.reason == "the validate command wrote nothing to metrics: write JSON with accuracy"


def test_any_language_can_do_with_safetensors(tmp_path: Path) -> None:
    manifest = """
format: safetensors
entry_points:
  train: 'f() { grep -q "\\"a\\": 1" "$1-metadata" && cp "$1" "$2" && echo "{\\"num_examples\\": 4}" > "$2-metadata"; }; f'
"""
    folder = made(tmp_path, manifest)
    result, _ = run(job(folder, config={"a": 1}))
    assert (result.outcome, result.examples) == ("done", 4), result
    assert not any(value.any() for value in weights(result).values())
    assert run(job(folder))[0].reason.startswith("the train command (f()")
    made(tmp_path, "format: safetensors\nentry_points: {train: 'f() { echo x > \"$2\"; }; f'}")
    assert "is no model: the blob is truncated" in run(job(folder))[0].reason


def test_paths_with_spaces_and_quotes_arrive_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = tmp_path / 'it\'s a "folder" of $HOME'
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    result, _ = run(job(made(odd)))
    assert result.outcome == "done", result


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_build_makes_the_seed_and_its_metadata_is_kept(tmp_path: Path, suffix: str) -> None:
    seed = tmp_path / "model"
    if suffix == "npz":
        seed.write_bytes(_npz(tmp_path, [np.ones(2, np.float16), np.zeros(1, np.int64)]))
    else:
        seed.write_bytes(BLOB)
    (tmp_path / "client").mkdir()
    manifest = f"{{format: {suffix}, entry_points: {{build: cp ../model ../seed.{suffix}, train: python train.py}}}}"
    result, _ = run(job(made(tmp_path / "client", manifest), "init"))
    assert isinstance(result.update, bytes), result
    weights, meta = tensors.decode(result.update)
    if suffix == "npz":
        assert {name: value.dtype.name for name, value in weights.items()} == {"0": "float32", "1": "int64"}
    else:
        assert (set(weights), meta) == (set(MODEL), {"roles": {"0010/bias": "statistic"}})


def _npz(folder: Path, arrays: list[np.ndarray]) -> bytes:
    path = folder / "made.npz"
    np.savez(path, *arrays)
    return path.read_bytes()


def test_without_a_build_command_a_seed_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    folder = made(tmp_path / "client")
    assert run(job(folder, "init"))[0].reason == (
        "there is no seed: write a build command that makes ../seed.npz, or give one"
    )
    (tmp_path / "seed.npz").write_text("no seed")
    assert "seed.npz is no model" in run(job(folder, "init"))[0].reason
    (tmp_path / "seed.npz").write_bytes(_npz(tmp_path, [np.ones(2)]))
    assert run(job(folder, "init"))[0].outcome == "done"
    folder = made(tmp_path / "client", "entry_points: {build: exit 4, train: python train.py}")
    assert run(job(folder, "init"))[0].reason == "the build command (exit 4) ended with exit code 4"


def test_startup_runs_once_a_client_and_before_its_first_task(tmp_path: Path) -> None:
    manifest = """
entry_points:
  startup: echo "$FEDMQ_CLIENT" >> started
  train: test -e started && python train.py
  validate: python validate.py
"""
    folder = made(tmp_path, manifest)
    for client in ("a", "a", "b"):
        assert run(job(folder, client=Client(client)))[0].outcome == "done"
    assert (folder / "started").read_text().split() == ["a", "b"]


def test_startup_that_fails_is_tried_again(tmp_path: Path) -> None:
    manifest = "entry_points: {startup: test -e ready, train: python train.py}"
    folder = made(tmp_path, manifest)
    assert run(job(folder))[0].reason == "the startup command (test -e ready) ended with exit code 1"
    (folder / "ready").touch()
    assert run(job(folder))[0].outcome == "done"


HELPERS = """
import json, sys
import fedn
from fedn.utils.helpers.helpers import get_helper, load_metadata, save_metadata, save_metrics
source, target = sys.argv[1:]
helper = get_helper("numpyhelper")
weights = helper.load(source)
helper.save([value + 1 for value in weights], target)
save_metadata({"num_examples": load_metadata(source)["n"], "fedn": fedn.__file__}, target)
"""


def test_fedns_helpers_are_there_where_fedn_is_not_installed(tmp_path: Path) -> None:
    folder = made(tmp_path, train=HELPERS)
    result, _ = run(job(folder, config={"n": 9}))
    assert (result.outcome, result.examples) == ("done", 9), result
    assert "fedn_shim" in result.metrics["fedn"]
    np.testing.assert_array_equal(weights(result)["0010/bias"], [1, 1])


def test_an_installed_fedn_comes_before_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    (site / "fedn" / "utils" / "helpers").mkdir(parents=True)
    (site / "fedn" / "__init__.py").write_text("")
    (site / "fedn" / "utils" / "helpers" / "helpers.py").write_text(
        "from theirs import *\ndef load_metadata(path): return {'n': 77}\n"
    )
    shim = Path(__file__).parents[3] / "services/client/fedmq_client/packages/fedn_shim/fedn/utils/helpers/helpers.py"
    (site / "theirs.py").write_text(shim.read_text())
    # Last on the path, as what is installed is: a `.pth` file would do the same.
    start = f"import sys\nsys.path.append({str(site)!r})\n"
    folder = made(tmp_path, train=start + HELPERS)
    result, _ = run(job(folder))
    assert (result.outcome, result.examples) == ("done", 77), result
    assert str(site) in result.metrics["fedn"]


@pytest.mark.parametrize("code", ["pass", "raise SystemExit(3)"])
def test_a_validate_command_that_fails_costs_no_training(tmp_path: Path, code: str) -> None:
    result, [validated] = run(job(made(tmp_path, validate=code), validate=True))
    assert (result.outcome, result.examples) == ("done", 12), result
    assert result.notes == (validated.reason,)
    assert validated.reason.startswith("the validate command ") and validated.metrics == {}


def test_roles_of_a_packages_file_complete_those_of_a_seed_that_states_none(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    np.savez(tmp_path / "seed.npz", ids=np.arange(9), w=np.ones(2))
    folder = made(package)
    assert "tensor 'ids' holds integers, int64 [9], and has no role" in run(job(folder, "init"))[0].reason
    with (folder / "fedn.yaml").open("a") as file:
        file.write("\nroles: {ids: constant}\n")
    result, _ = run(job(folder, "init"))
    assert isinstance(result.update, bytes), result
    assert tensors.decode(result.update)[1]["roles"] == {"ids": "constant"}


def test_a_seed_of_a_list_with_integers_takes_the_roles_of_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    np.savez(tmp_path / "seed.npz", np.ones(2, np.float32), np.arange(3))
    folder = made(tmp_path / "client")
    assert "tensor '1' holds integers, int64 [3], and has no role" in run(job(folder, "init"))[0].reason
    with (folder / "fedn.yaml").open("a") as manifest:
        manifest.write('\nroles: {"1": constant}\n')
    result, _ = run(job(folder, "init"))
    assert isinstance(result.update, bytes), result
    assert tensors.decode(result.update)[1]["roles"] == {"1": "constant"}


def test_arrays_of_another_name_are_refused_with_a_line_that_works(tmp_path: Path) -> None:
    unnamed = TRAIN.replace("np.savez(target, **{", "np.savez(target, *{").replace("* 2})", "* 2}.values())")
    reason = run(job(made(tmp_path, train=unnamed)))[0].reason
    line = reason.partition("by their numbers: ")[2].replace("numpy", "np").replace("OUT", "target")
    assert line == "np.savez(target, **{str(i): a for i, a in enumerate(arrays)})", reason
    (tmp_path / "advised").mkdir()
    advised = TRAIN.replace("json.dump({", f"arrays = list(arrays.values())\n{line}\njson.dump({{")
    assert run(job(made(tmp_path / "advised", train=advised)))[0].outcome == "done"
