"""A run in other tools' forms, held against those tools: pandas, Model Explorer, the converter's own op types."""

from __future__ import annotations

import inspect
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from harness.report.export import LARGEST_RATIO, dialect_op, export

Json = dict[str, Any]
Make = Callable[..., Path]


def table(folder: Path) -> Any:
    return pd.read_csv(io.StringIO(export(folder, "csv").text))


class TestCsv:
    def test_pandas_reads_numbers_as_numbers_and_finds_the_culprits(self, make: Make, samples: Any) -> None:
        ops = [samples.op(i, "culprit" if i in (2, 5, 7) else "fine", op="BATCH_MATMUL") for i in range(9)]
        read = table(make(ops=ops))
        assert read["index"].tolist() == list(range(9))
        assert read.dtypes[["ratio", "local_max_abs", "device_min", "expected_rms"]].unique().tolist() == ["float64"]
        found = read[read.verdict == "culprit"]
        assert found["index"].tolist() == [2, 5, 7]
        assert set(found.cause) == {"accumulation"}
        assert found.certified.tolist() == [True] * 3
        assert read[read.verdict == "fine"].cause.isna().all()

    def test_nan_and_infinity_stay_numbers(self, make: Make, samples: Any) -> None:
        ops = [samples.op(0, local_max_abs=float("inf"), ratio=float("nan")), samples.op(1)]
        read = table(make(samples.record(result=samples.localization(culprits=[])), ops))
        assert np.isinf(read.local_max_abs[0])
        assert np.isnan(read.ratio[0])
        assert read.dtypes[["local_max_abs", "ratio"]].tolist() == ["float64"] * 2

    def test_a_name_with_a_comma_or_a_quote_stays_one_cell(self, make: Make, samples: Any) -> None:
        name = 'a,"b"\nc'
        read = table(make(samples.record(result=samples.localization(culprits=[])), [samples.op(0, output=name)]))
        assert read.output.tolist() == [name]

    def test_a_line_that_was_cut_off_is_left_out(self, make: Make) -> None:
        folder = make()
        path = folder / "ops.csv"
        path.write_text(path.read_text("utf-8")[:-20], "utf-8")
        assert table(folder)["index"].tolist() == list(range(8))

    @pytest.mark.parametrize("cut", [1, 2, 3, 20])
    def test_a_line_cut_within_its_last_number_is_left_out(self, make: Make, cut: int) -> None:
        folder = make()
        path = folder / "ops.csv"
        path.write_text(path.read_text("utf-8")[:-cut], "utf-8")
        assert table(folder)["index"].tolist() == list(range(8))

    def test_bytes_that_are_no_text_are_replaced(self, make: Make, samples: Any) -> None:
        folder = make(samples.record(result=samples.localization(culprits=[])), [samples.op(0, output="name")])
        path = folder / "ops.csv"
        path.write_bytes(path.read_bytes().replace(b"name", b"n\xff\xfe"))
        assert table(folder).output.tolist() == ["n\ufffd\ufffd"]

    @pytest.mark.parametrize("number", ["9" * 400, "9" * 5000, "1e999", "nan", "-inf"])
    def test_numbers_that_cannot_be_end_in_one_sentence(self, make: Make, samples: Any, number: str) -> None:
        folder = make(ops=[samples.op(0, first=number)])
        with pytest.raises(UsageError, match=r"ops\.csv, line 2"):
            export(folder, "csv")


class TestModelExplorer:
    def test_its_own_builder_reads_it_back(self, make: Make, samples: Any) -> None:
        from model_explorer import node_data_builder as builder

        text = export(make(), "model-explorer").text
        document = json.loads(text)
        results = {key: builder.NodeDataResult(**value) for key, value in document["results"].items()}
        thresholds = [builder.ThresholdItem(**value) for value in document["thresholds"]]
        data = builder.GraphNodeData(results, document["name"], thresholds)
        assert json.loads(data.to_json_string()) == document
        assert results["tensor_5"] == builder.NodeDataResult(335.0, "#c62828")
        assert results["tensor_0"] == builder.NodeDataResult(0.5)
        assert document["name"] == "local error / expected error, host gpu default"
        assert [t.value for t in thresholds] == sorted(t.value for t in thresholds)

    def test_every_key_names_a_node_of_the_graph_that_the_tool_draws(
        self, make: Make, samples: Any, tmp_path: Path
    ) -> None:
        import ai_edge_model_explorer_adapter as adapter

        graph = GraphBuilder()
        x = graph.input("x", (1, 8, 16))
        y = graph.unary("TANH", graph.fully_connected(x, np.eye(16, dtype=np.float32)))
        graph.output(graph.binary("ADD", y, x), "y")
        model = graph.build()
        (tmp_path / "model.tflite").write_bytes(model.to_bytes())
        view = model.graph()
        ops = [samples.op(op.index, op=op.name, output=view.tensors[op.outputs[0]].name) for op in view.ops]
        text = export(make(samples.record(result=samples.localization(culprits=[])), ops), "model-explorer").text
        drawn = json.loads(
            adapter.ConvertFlatbufferDirectlyToJson(adapter.VisualizeConfig(), str(tmp_path / "model.tflite"))
        )
        (nodes,) = [g["nodes"] for model in drawn for g in model["subgraphs"]]
        named = {
            attribute["value"]: node["label"]
            for node in nodes
            for made in node.get("outputsMetadata", [])
            for attribute in made["attrs"]
            if attribute["key"] == "tensor_name"
        }
        keys = set(json.loads(text)["results"])
        assert len(keys) == 3
        assert {named[key] for key in keys} == {"fully_connected", "tanh", "add"}

    def test_what_json_cannot_hold_is_as_wrong_as_can_be(self, make: Make, samples: Any) -> None:
        ops = [
            samples.op(0, ratio=float("inf")),
            samples.op(1, ratio=float("nan")),
            samples.op(2, ratio=0.1, nonfinite=3),
            samples.op(3, "unread", ratio=""),
        ]
        text = export(make(samples.record(result=samples.localization(culprits=[])), ops), "model-explorer").text
        values = {key: value["value"] for key, value in json.loads(text, parse_constant=pytest.fail)["results"].items()}
        assert values == dict.fromkeys(("tensor_0", "tensor_1", "tensor_2"), LARGEST_RATIO)

    def test_a_name_taken_twice_gives_way_to_the_op_s_number(self, make: Make, samples: Any) -> None:
        ops = [samples.op(0, output="same"), samples.op(1, output="same"), samples.op(2, output="other")]
        text = export(make(samples.record(result=samples.localization(culprits=[])), ops), "model-explorer").text
        assert set(json.loads(text)["results"]) == {"0", "1", "other"}

    def test_an_op_read_two_ways_shows_the_worse(self, make: Make, samples: Any) -> None:
        ops = [samples.op(0, ratio=3.0), samples.op(0, "culprit", ratio=99.0, reading="output"), samples.op(0, ratio=5)]
        text = export(make(samples.record(result=samples.localization(culprits=[])), ops), "model-explorer").text
        assert json.loads(text)["results"] == {"tensor_0": {"value": 99.0, "bgColor": "#c62828"}}

    def test_without_the_library_one_sentence_says_what_to_install(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "model_explorer", None)
        with pytest.raises(UsageError, match="pip install 'ai-edge-model-explorer'"):
            export(make(), "model-explorer")


class TestMixedPrecision:
    def test_types_are_listed_once_and_the_note_says_what_else_they_keep(self, make: Make, samples: Any) -> None:
        ops = [samples.op(i, op="BATCH_MATMUL" if i % 2 else "ADD") for i in range(12)]
        made = export(make(ops=ops), "fp32-ops")
        assert made.text == "tfl.BatchMatMulOp\n"
        assert made.note == (
            "tfl.BatchMatMulOp keeps all 6 BATCH_MATMUL in float32, of which 3 need it: "
            "--format fp32-names is narrower."
        )

    def test_several_types_are_separated_by_commas_alone(self, make: Make, samples: Any) -> None:
        culprits = [samples.culprit(1, op="CUMSUM"), samples.culprit(0, op="ADD")]
        ops = [samples.op(0, op="ADD"), samples.op(1, op="CUMSUM")]
        made = export(make(samples.record(result=samples.localization(culprits=culprits)), ops), "fp32-ops")
        assert (made.text, made.note) == ("tfl.AddOp,tfl.CumsumOp\n", "")  # as in the tool's own README

    def test_names_are_those_of_the_culprits_and_the_note_says_what_they_match_too(
        self, make: Make, samples: Any
    ) -> None:
        made = export(make(ops=[samples.op(i) for i in (2, 5, 7, 25)]), "fp32-names")
        assert made.text == "tensor_2,tensor_5,tensor_7\n"
        assert made.note == "These names are part of others, which stay in float32 too: tensor_25."

    def test_a_name_that_the_list_cannot_hold_is_refused(self, make: Make, samples: Any) -> None:
        culprits = [samples.culprit(2, output="a,b")]
        with pytest.raises(UsageError, match="one with a comma in it"):
            export(make(samples.record(result=samples.localization(culprits=culprits))), "fp32-names")

    def test_an_op_that_the_dialect_lacks_is_refused(self, make: Make, samples: Any) -> None:
        culprits = [samples.culprit(2, op="L2_POOL_2D")]
        with pytest.raises(UsageError, match="L2_POOL_2D is no op of the TFLite dialect"):
            export(make(samples.record(result=samples.localization(culprits=culprits))), "fp32-ops")

    def test_types_are_called_what_the_converter_calls_them(self) -> None:
        from litert_converter.tools.model_utils.dialect import tfl

        kinds = {name: getattr(kind, "name", "") for name, kind in vars(tfl).items() if inspect.isclass(kind)}
        known = {f"tfl.{name}": said for name, said in kinds.items() if str(said).startswith("tfl.")}
        assert len(known) > 60
        assert {dialect_op(mnemonic.removeprefix("tfl.").upper()) for mnemonic in known.values()} == set(known)


@pytest.mark.parametrize("form", ["csv", "model-explorer", "fp32-ops", "fp32-names"])
def test_a_run_without_ops_says_which_have_some(make: Make, samples: Any, form: Any) -> None:
    with pytest.raises(UsageError, match="has no ops: `compare` reads none"):
        export(make(samples.record("compare", result={"status": "fail"}), []), form)


def test_a_run_that_read_no_op_of_its_culprits_says_so(make: Make, samples: Any) -> None:
    """Those that lose digits in float16 are told from the host alone."""
    with pytest.raises(UsageError, match=r"has no ops: the host alone told .* `harness dump` on the model"):
        export(make(samples.record(), []), "csv")


@pytest.mark.parametrize("form", ["fp32-ops", "fp32-names"])
def test_a_run_without_culprits_keeps_nothing_in_float32(make: Make, samples: Any, form: Any) -> None:
    with pytest.raises(UsageError, match="names no culprit"):
        export(make(samples.record("dump", result={"status": "pass"})), form)


class TestHtml:
    def test_the_first_culprits_page_comes_and_the_others_are_named(self, make: Make) -> None:
        folder = make()
        for name in ("0002-PAD", "0007-ADD"):
            (folder / "reproducers" / name).mkdir(parents=True)
            (folder / "reproducers" / name / "reproduce.html").write_text(f"<p>{name}", "utf-8")
        found = export(folder, "html")
        assert found.text == "<p>0002-PAD"
        assert found.note.endswith("0007-ADD/reproduce.html.")

    def test_a_run_of_another_device_has_none(self, make: Make) -> None:
        with pytest.raises(UsageError, match="no page that reproduces") as caught:
            export(make(), "html")
        assert "--device web" in caught.value.next_step

    def test_what_is_no_file_is_not_read(self, make: Make) -> None:
        folder = make()
        (folder / "reproducers" / "0002-PAD").mkdir(parents=True)
        (folder / "reproducers" / "0002-PAD" / "reproduce.html").symlink_to("/etc/passwd")
        with pytest.raises(UsageError, match="cannot be read"):
            export(folder, "html")
