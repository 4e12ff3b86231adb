"""Every entry is of the form that the schema has, finds the graph that shows it and no healthy one."""

from __future__ import annotations

import json
import re
import tomllib
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from device_tests import knowledge_forms, knowledge_swept, lint_forms
from device_tests.corpus import CORPUS, web
from device_tests.corpus.refused import REFUSED
from device_tests.refused_forms import REFUSED_FORMS
from harness.devices.planted.catalogue import BUGS
from harness.graph.model import Model
from harness.lint.knowledge.entry import Entry, Place
from harness.lint.knowledge.reading import FOLDER, EntryError, entries, entry
from harness.lint.knowledge.scene import Scene
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint
from harness.remedies import catalogue
from harness.remedies.cause import Cause

SCHEMA = json.loads((files("harness.lint.knowledge") / "entry.schema.json").read_text("utf-8"))
TABLES = {
    file.name.removesuffix(".toml"): tomllib.loads(file.read_text("utf-8"))
    for file in FOLDER.iterdir()
    if file.name.endswith(".toml")
}
FORMS = (*knowledge_forms.FORMS, *knowledge_swept.FORMS)
HEALTHY = [bug for bug in CORPUS if not bug.culprits]
ANYWHERE = [target_of(name) for name in ("host@2.1.3", "host@2.3.0", "web@2.5.3", "pixel8a", "adreno")]
each_entry = pytest.mark.parametrize("known", entries(), ids=lambda known: known.name)


def corpus_of(known: Entry) -> set[str]:
    return {name for each in known.evidence for name in each.corpus}


def accused(known: Entry, model: Model) -> list[int]:
    """Indices of the accused ops."""
    return [match.op.index for match in known.pattern.matches(Scene(model, model.graph()))]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_an_entry_is_of_the_form_that_the_schema_has(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name)
    Draft202012Validator(SCHEMA).validate(TABLES[name])


def test_an_effect_is_known_from_the_first_release_that_has_it_to_the_first_that_has_it_no_more() -> None:
    place = Place("host", since="2.1.5", until="2.2.0", not_yet="2.1.3", fixed="2.4.0.dev20261026", certain=True)
    told = {"2.1.2": None, "2.1.3": None, "2.1.4": "risk", "2.1.5": "certain", "2.1.6": "certain", "2.2.0": "certain"}
    told |= {"2.3.0": "risk", "2.4.0.dev20261025": "risk", "2.4.0.dev20261026": None, "2.4.0": None}
    assert {release: place.sure(target_of(f"host@{release}")) for release in told} == told


def test_the_schema_and_the_reader_refuse_what_is_no_entry() -> None:
    whole = TABLES["rank-3-pad"]
    spoilt: list[dict[str, Any]] = [
        whole | {"effect": "odd"},
        whole | {"sentence": "too short"},
        whole | {"more": 1},
        whole | {"where": [{"platform": "host", "certain": True}]},
        whole | {"evidence": [{"says": "it is so"}]},
        {key: value for key, value in whole.items() if key != "helps"},
    ]
    for table in spoilt:
        assert not Draft202012Validator(SCHEMA).is_valid(table)
    pattern = whole["pattern"]
    for table in (
        whole | {"about": "nobody"},
        whole | {"pattern": pattern | {"where": ["x.rank == y.rank"]}},
        whole | {"pattern": pattern | {"where": ["made_up(x)"]}},
        whole | {"pattern": pattern | {"where": ["x.rank if"]}},
        whole | {"pattern": pattern | {"ops": [*pattern["ops"], {"name": "apart", "reads": ["z"]}]}},
        whole | {"sentence": "The GPU pads {y}."},
        whole | {"helps_of": {"TANH": "Write it as another op."}},
        whole | {"helps_of": {"PAD": "Pad {y} less."}},
        whole | {"known": {"causes": ["kernel"], "signatures": ["("]}},
    ):
        with pytest.raises(EntryError, match="spoilt"):
            entry("spoilt", table)


@each_entry
def test_its_names_are_those_of_the_house(known: Entry) -> None:
    rewrites = {value.name for value in vars(catalogue).values() if isinstance(value, catalogue.Rewrite)}
    assert known.remedy is None or known.remedy in rewrites
    assert known.signs.causes <= set(Cause)
    assert known.pattern.ops[0].name == "op", "the accused op is called so"
    bugs = {bug.name for bug in BUGS}
    assert {place.planted for place in known.places if place.planted} <= bugs
    assert {each.planted for each in known.evidence if each.planted} <= bugs


@each_entry
def test_what_is_certain_on_the_host_has_a_graph_that_shows_it_and_the_rest_a_report_or_a_planted_phone(
    known: Entry,
) -> None:
    if any(place.certain and place.platform == "host" for place in known.places):
        assert corpus_of(known)
    elif not corpus_of(known):
        assert known.issues or any(each.planted or each.versions for each in known.evidence)
    assert all(place.families or not place.certain for place in known.places if place.platform == "android")


@pytest.mark.parametrize("bug", [bug for bug in CORPUS if bug.culprits], ids=lambda bug: bug.name)
def test_an_entry_finds_the_culprit_of_each_graph_that_shows_it(bug: Any) -> None:
    ((last, *_),) = bug.culprits
    window = range(last if bug.first is None else bug.first, last + 1)
    model = bug.build()
    shown = [known for known in entries() if bug.name in corpus_of(known)]
    assert len(shown) == 1
    found = accused(shown[0], model)
    assert len(found) == 1 and found[0] in window
    # Nothing else in it is accused, but that an old release alters outputs which are read.
    told = [f for f in lint(model, target_of(bug.broken[0])) if f.sure == "certain"]
    assert {f.rule for f in told} <= {shown[0].name, "output-read-again"}
    assert all(f.op in window for f in told)
    if shown[0].listed and any(place.certain for place in shown[0].places):
        assert told


@pytest.mark.parametrize("bug", HEALTHY, ids=lambda bug: bug.name)
@pytest.mark.parametrize("target", ANYWHERE, ids=lambda target: target.name)
def test_nothing_is_said_of_a_healthy_graph(bug: Any, target: Any) -> None:
    found = lint(bug.build(), target)
    # A graph that the host's runtime takes may have ports that LiteRT.js has no array for.
    there = target.platform == "web" and bug.name in web.REFUSED
    assert {finding.rule for finding in found} == ({"refused-web-port"} if there else set())


@pytest.mark.parametrize("refused", REFUSED, ids=lambda refused: refused.name)
def test_a_refused_graph_is_told_by_the_entry_that_names_it(refused: Any) -> None:
    model = refused.build()
    certain = [f for f in lint(model, target_of(f"host@{refused.release or '2.3.0'}")) if f.sure == "certain"]
    assert [(f.op, f.op_name, f.effect) for f in certain] == [(*refused.op, "refused")]
    assert refused.name in corpus_of(certain[0].entry)


def test_what_helps_is_told_of_the_kind_of_op_that_is_accused() -> None:
    fixes = {refused.name: [f.fix for f in lint(refused.build())] for refused in REFUSED}
    assert fixes["refused_squeeze"] == ["Write it as RESHAPE."]
    assert fixes["refused_gather_nd"] == ["Write it as SLICE and CONCATENATION."]


def test_no_graph_is_named_that_is_not_there() -> None:
    there = {bug.name for bug in CORPUS} | {refused.name for refused in REFUSED}
    named = set().union(*map(corpus_of, entries()))
    assert named == there - {bug.name for bug in HEALTHY}
    forms = {each.forms for known in entries() for each in known.evidence if each.forms}
    assert forms == set(lint_forms.FORMS)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.entry}, {form.name}")
def test_an_entry_accuses_its_forms_and_none_of_their_neighbours(form: Any) -> None:
    found = [f.rule for f in lint(form.model(), target_of("host@2.3.0")) if f.level in ("silent", "crash")]
    assert found == [form.entry] * form.accused


@pytest.mark.parametrize("form", REFUSED_FORMS, ids=lambda form: f"{form.entry}, {form.name}")
def test_a_form_is_certain_to_be_refused_and_its_neighbour_is_not(form: Any) -> None:
    found = [f.rule for f in lint(form.model(), target_of("host@2.3.0")) if f.level == "refused"]
    assert found == [form.entry] * form.accused


def test_forms_are_told_apart() -> None:
    names = [(form.entry, form.name) for form in (*FORMS, *REFUSED_FORMS)]
    assert len(set(names)) == len(names)
    assert {name for name, _ in names} <= {known.name for known in entries()}
