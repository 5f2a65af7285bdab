"""`empathy probe` as a user runs it, and where what it finds is shown."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scorer.bundle.bundle import Bundle, write_bundle
from scorer.inputs.corpus import Corpus
from scorer.model import Scorer
from scorer.run.score import score_files
from scorer.run.settings import ScoreSettings
from selection.probing.kinds import KINDS
from selection.probing.probe import probe
from selection.report.build import figures
from selection.settings import ProbeSettings, ReportSettings
from tests.conftest import bundle_info, make_tokenizer, record, varied, write_lines
from tests.selection.selection_data import invoke, one_line

LOOSE = [f"--limit={kind}=0.9999" for kind in KINDS]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty dialogues, and a record that is none."""
    records = [record(*(turn.content for turn in one.turns), id=str(n)) for n, one in enumerate(varied(60))]
    return write_lines(tmp_path_factory.mktemp("probe") / "in.jsonl", [*records, {"id": "bad"}])


def run(*arguments: str | Path) -> tuple[int, str, str]:
    result = invoke(*map(str, arguments), command="probe")
    return result.exit_code, result.stdout, result.stderr


def test_it_prints_a_table_and_the_exit_code_says_whether_limits_hold(lenient: Bundle, source: Path) -> None:
    code, out, err = run(source, "--scorer", lenient.path, "--sample", "30", *LOOSE)
    assert (code, "all 16 limits hold" in out) == (0, True)
    assert "1 records are no dialogues" in err
    lines = out.splitlines()
    assert lines[0].startswith(f"probe: 30 contexts of {source}, seed 0")
    assert [line.split()[0] for line in lines[3:19]] == list(KINDS)
    strict = [*LOOSE, "--limit", "filler=0", "--show", "0"]
    code, out, _ = run(source, "--scorer", lenient.path, "--sample", "30", *strict)
    assert (code, "1 of 16 kinds are beyond their limits: filler" in out) == (1, True)
    assert "the worst of each kind" not in out


def test_the_json_has_every_figure_and_the_worst(lenient: Bundle, source: Path, tmp_path: Path) -> None:
    file = tmp_path / "probe.json"
    code, out, _ = run(source, "--scorer", lenient.path, "--sample", "30", "--json", file, "--show", "2", "-q")
    assert out == ""
    found = json.loads(file.read_text())
    assert (
        found["passed"]
        == (code == 0)
        == all(kind["limit"] is None or kind["share"] <= kind["limit"] for kind in found["probe"]["kinds"])
    )
    assert (found["sha256"], found["probe"]["contexts"]) == (lenient.sha256, 30)
    assert {one["kind"] for one in found["examples"]} == {k["kind"] for k in found["probe"]["kinds"] if k["share"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--limit", "rude=0.1"], "'rude' is no kind, expected one of hostile"),
        (["--limit", "hostile"], "'' is no share, expected hostile=SHARE"),
        (["--limit", "hostile=2"], "hostile is 2.0, expected 0 to 1"),
        (["--limit", "hostile=nan"], "hostile is nan, expected 0 to 1"),
        (["--sample", "0"], "sample is 0, expected at least 1"),
        (["--show", "-1"], "show is -1, expected at least 0"),
        (["--scorer", "nowhere"], "nowhere: no such folder"),
        (["missing.jsonl"], "missing.jsonl"),
    ],
)
def test_faults_are_one_line(lenient: Bundle, source: Path, arguments: list[str], said: str) -> None:
    inputs = [] if arguments == ["missing.jsonl"] else [str(source)]
    code, _, err = run(*inputs, "--scorer", lenient.path, *arguments)
    assert said in one_line(code, err)


def test_an_input_is_never_replaced(lenient: Bundle, source: Path, tmp_path: Path) -> None:
    before = source.read_bytes()
    code, _, err = run(source, "--scorer", lenient.path, "--json", source)
    assert "is an input as well" in one_line(code, err)
    assert source.read_bytes() == before
    code, _, err = run(source, "--scorer", lenient.path, "--json", tmp_path / "no" / "x.json")
    assert "does not exist; create it first" in one_line(code, err)


def test_a_file_without_dialogues_is_an_error(lenient: Bundle, tmp_path: Path) -> None:
    code, _, err = run(write_lines(tmp_path / "bad.jsonl", [{"id": "bad"}]), "--scorer", lenient.path)
    assert code == 2
    assert "holds no dialogue" in err


@pytest.fixture(scope="module")
def probed(lenient: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same scorer with the record of its probe in scorer.json."""
    scorer = Scorer.load(lenient.path, engine="onnxruntime", threads=1)
    found = probe(scorer, varied(40), ProbeSettings(sample=20), data="random words")
    info = {**bundle_info(make_tokenizer()), "probe": found.record.to_json()}
    files = {name: data for name, data in lenient.files.items() if name != "scorer.json"}
    return write_bundle(tmp_path_factory.mktemp("probed") / "tiny", info, files)


def test_inspect_shows_the_probe_of_a_bundle(probed: Bundle, lenient: Bundle) -> None:
    assert lenient.info.probe is None
    assert probed.info.probe is not None
    shown = invoke(str(probed.path), command="inspect").stdout
    assert "probe: 20 contexts of random words" in shown
    assert all(f"\n  {kind} " in shown for kind in KINDS)
    assert "probe:" not in invoke(str(lenient.path), command="inspect").stdout


def test_a_report_shows_the_probe_that_the_scores_bring(
    probed: Bundle, lenient: Bundle, source: Path, tmp_path: Path
) -> None:
    pytest.importorskip("altair")
    for made, name in ((probed, "with"), (lenient, "without")):
        scorer = Scorer.load(made.path, engine="onnxruntime", threads=1)
        score_files(scorer, Corpus([str(source)]), tmp_path / f"{name}.parquet", ScoreSettings())
    found = figures([tmp_path / "with.parquet"], ReportSettings(threshold=5))["sources"][0]["behaviour"]
    assert probed.info.probe is not None
    assert [row["kind"] for row in found["kinds"]] == list(KINDS)
    assert found["passed"] == probed.info.probe.passed
    assert "needs" in figures([tmp_path / "without.parquet"], ReportSettings())["sources"][0]["behaviour"]
    out = tmp_path / "r.html"
    shown = invoke(str(tmp_path / "with.parquet"), "-o", str(out), command="report")
    assert shown.exit_code == 0, shown.stderr
    assert 'id="table-behaviour"' in out.read_text()
