"""The code blocks of README.md and docs/: where they stand, what they are, and how each is executed.

A shell or Python block is executed as it stands. One that cannot be says so in the page's source, right before it:

    <!-- not run: REASON -->

A block of another kind has to say that it is none: a fence of the language text, json or toml.
"""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markdown_it import MarkdownIt

from harness.core.errors import EXIT_OK, EXIT_WRONG
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import f32
from tests.cli import started
from tests.cli.conftest import ROOT, environment

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECONDS = 300.0

_MARK = re.compile(r"\s*<!-- not run:(.*?)-->\s*", re.DOTALL)
_LANGUAGES = {"sh": "shell", "python": "python", "text": "shown", "json": "shown", "toml": "shown"}
_TOOLS = "check-jsonschema|for|git|harness|make|mixed_precision_main|model-explorer|pip|pytest|python3?|sudo|apt-get"
_COMMAND = re.compile(rf"(?:\$ )?(?:{_TOOLS})(?: |$)")
# What installs or checks the whole repository: its words are checked, here or in test_commands.py.
_SETS_UP = re.compile(r"make |pip install |python3 -m venv |(?:sudo )?apt-get |git clone ")
# Starts the compiler of the GPU, or needs a run that did.
_GPU = re.compile(
    r"\b(?:audit|bench|bisect-runtime|compare|doctor|dump|localize|on_device|latency|answer|pytest|RUN|results|dashboard)\b"
)
_SLOW = re.compile(r"host@|bisect-runtime|\bbench\b|\blatency\b")
PHONE = "pixel8a"
RUN = "20261120T145445Z-model-host"
"""The run that a page means by RUN and <run>."""
REMEDY = "constants-with-the-batch-dimension-kept.tflite"

# What a page leaves to its reader, as the folder has it that blocks run in.
_NAMES = {
    "results/<run>": f"results/{RUN}",
    "RUN/": f"results/{RUN}/",
    "FILE.tflite": REMEDY,
    "0049-BATCH_MATMUL": "0000-ADD",
}
# What an example takes for given.
_GIVEN = {
    "pixels": "import numpy; pixels = numpy.load('inputs.npz')['image']",
    "answer": "import json; answer = json.load(open('answer.json'))",
}
# Other people's tools: each refuses a file that is not there, and an option without a value.
_TOOL = """#!{python}
import json, pathlib, sys
words = [word.partition("=")[2] if word.startswith("--") and "=" in word else word for word in sys.argv[1:]]
assert all(words), words
for word in words:
    if word.endswith((".json", ".tflite")) and word != "mixed.tflite":
        assert pathlib.Path(word).stat().st_size, word
if sys.argv[0].endswith("check-jsonschema"):
    import jsonschema
    option, form, document = sys.argv[1:]
    assert option == "--schemafile"
    jsonschema.validate(*(json.loads(pathlib.Path(name).read_text()) for name in (document, form)))
"""


@dataclass(frozen=True)
class Block:
    """A code block: its page, the line of its first word, its language, and why it is not run."""

    page: Path
    line: int
    language: str
    """`shell`, `python`, `shown` for what is no code, or empty: it cannot be told."""
    text: str
    reason: str | None = None

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def on_a_phone(self) -> bool:
        return PHONE in self.text

    @property
    def needs_gpu(self) -> bool:
        return _GPU.search(self.text) is not None

    @property
    def is_slow(self) -> bool:
        """It measures latency, or asks other releases of the runtime."""
        return _SLOW.search(self.text) is not None

    @property
    def commands(self) -> list[tuple[str, str]]:
        """Each command of a shell block, without its prompt, with the output that the page shows below it."""
        joined = self.text.replace("\\\n", " ")
        if not joined.startswith("$ "):
            return [(line, "") for line in joined.splitlines() if line.strip()]
        parts = re.split(r"^\$ ", joined, flags=re.MULTILINE)[1:]
        return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def blocks(page: Path, source: str | None = None) -> Iterator[Block]:
    """Every code block of a page, fenced or indented, also inside lists."""
    reason = None
    for token in MarkdownIt("commonmark").parse(page.read_text("utf-8") if source is None else source):
        if token.type in ("fence", "code_block"):
            assert token.map is not None
            word = token.info.split()[0] if token.info.strip() else ""
            language = _LANGUAGES.get(word, "") if word else language_of(token.content)
            yield Block(page, token.map[0] + 1 + (token.type == "fence"), language, token.content, reason)
        mark = _MARK.fullmatch(token.content) if token.type == "html_block" else None
        reason = mark[1].strip() if mark else None


def language_of(text: str) -> str:
    """What a block is that does not say it: only what looks like code from its first to its last line is told."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    if lines and (text.startswith("$ ") or all(_COMMAND.match(line) for line in lines)):
        return "shell"
    try:
        parsed = ast.parse(text)
    except SyntaxError:
        return ""
    doing = (ast.Assign, ast.Call, ast.FunctionDef, ast.Import, ast.ImportFrom)
    return "python" if any(isinstance(node, doing) for node in ast.walk(parsed)) else ""


def looks_like_commands(text: str) -> bool:
    """Whether some line of it is one that a reader would type."""
    return any(_COMMAND.match(line) for line in text.splitlines())


def run(block: Block, folder: Path, finished: Callable[[], Path]) -> None:
    """Execute a block in an empty folder; `finished` makes what a finished run leaves.

    Raises:
        AssertionError: it ended otherwise than its commands promise, or said something else than the page.
    """
    text = block.text
    for left, right in _NAMES.items():
        text = text.replace(left, right)
    _furnish(folder, text, finished)
    if block.language == "python":
        _run_python(text, folder)
        return
    for command, output in Block(block.page, block.line, "shell", text).commands:
        if not _SETS_UP.match(command):
            _run_command(command, output, folder)


def _furnish(folder: Path, text: str, finished: Callable[[], Path]) -> None:
    """The files that pages name. Models are wrong on the GPU by name, and right where a test is to pass."""
    wrong, right, tested = _wrong().to_bytes(), _open().to_bytes(), "pytest" in text or "def test_" in text
    for name in ("model", "MODEL", "old", "other"):
        (folder / f"{name}.tflite").write_bytes(right if tested or "--shape" in text else wrong)
    (folder / "new.tflite").write_bytes(right)
    image = np.random.default_rng(0).standard_normal((1, 4, 8, 3) if tested else (4, 8))
    np.savez(folder / "inputs.npz", image=f32(image))
    (folder / "test_model.py").write_text("def test_it(on_device):\n    assert on_device.compare('model.tflite').ok\n")
    tools = folder / "bin"
    tools.mkdir()
    for tool in ("check-jsonschema", "mixed_precision_main", "model-explorer"):
        (tools / tool).write_text(_TOOL.format(python=sys.executable))
        (tools / tool).chmod(0o755)
    if re.search(r"\b(?:results|RUN|dashboard|latest|answer)\b", text):
        shutil.copytree(finished(), folder, dirs_exist_ok=True)
        shutil.copytree(folder / "results", folder / "DIR")


def _wrong() -> Model:
    """An ADD of a constant without a leading 1, of which the GPU reads row 0 for every row."""
    graph = GraphBuilder()
    rows = graph.constant(f32([[1.0] * 8, [2.0] * 8, [3.0] * 8, [4.0] * 8]))
    graph.output(graph.binary("ADD", graph.input("image", (4, 8)), rows), "y")
    return graph.build()


def _open() -> Model:
    """A RELU of an image whose height and width are open."""
    graph = GraphBuilder()
    graph.output(graph.unary("RELU", graph.input("image", (1, 4, 8, 3))), "y")
    root = graph.build().root
    for tensor in root.subgraphs[0].tensors:
        tensor.shapeSignature = np.asarray([1, -1, -1, 3], np.int32)
    return Model.from_bytes(Model(root).to_bytes())


def finish(folder: Path) -> None:
    """What `harness dump` and `harness localize` of the wrong model leave, in one run folder with a name that is known,
    and the answer of the second."""
    (folder / "model.tflite").write_bytes(_wrong().to_bytes())
    for words in (["dump", "model.tflite"], ["localize", "model.tflite", "--json"]):
        out = folder / "answer.json"
        code = started.run(words, folder, environment(), out, folder / "err", SECONDS)
        assert code == EXIT_WRONG, (folder / "err").read_text("utf-8")
    (folder / "err").unlink()
    (folder / "model.tflite").unlink()
    dumped, localized = sorted((folder / "results").glob("*Z-*"))
    shutil.copytree(dumped / "tensors", localized / "tensors", dirs_exist_ok=True)
    shutil.rmtree(dumped)
    localized.rename(folder / "results" / RUN)


def _run_python(code: str, folder: Path) -> None:
    test = folder / "test_example.py"
    if "def test_" in code:
        test.write_text(code, "utf-8")
        words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    else:
        given = [line for name, line in _GIVEN.items() if re.search(rf"\b{name}\b", code)]
        words = ["-c", "\n".join([*given, code])]
    _process([sys.executable, *words], folder, EXIT_OK)


def _run_command(command: str, shown: str, folder: Path) -> None:
    words = shlex.split(command, comments=True)
    code = promised(words, folder)
    if words[0] == "harness" and not re.search(r"[|&;<>$*`]", command.partition(" #")[0]):
        out, err = folder / "said.out", folder / "said.err"
        ended = started.run(words[1:], folder, _surroundings(folder), out, err, SECONDS)
        assert ended == code, f"{command}: ended with {ended}, not {code}\n{err.read_text('utf-8')}"
        said = out.read_text("utf-8")
    else:
        said = _process(["bash", "-o", "pipefail", "-c", command], folder, code)
    if shown:
        assert is_shown(shown, said), f"{command} says\n{said}"


def promised(words: list[str], folder: Path) -> int:
    """The exit code that a command promises: 1 for what judges a model that is wrong and does not mend it, else 0."""
    if (
        "--fix" in words
        or words[0] != "harness"
        or words[1] not in ("bench", "bisect-runtime", "compare", "dump", "lint", "localize")
    ):
        return EXIT_OK
    named = [folder / word for word in words if word.endswith(".tflite")]
    return EXIT_WRONG if _wrong().to_bytes() in [path.read_bytes() for path in named if path.exists()] else EXIT_OK


def _process(words: list[str], folder: Path, code: int) -> str:
    done = subprocess.run(
        words, cwd=folder, env=_surroundings(folder), capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == code, f"{words[-1]}: ended with {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def _surroundings(folder: Path) -> dict[str, str]:
    inherited = environment()
    path = f"{folder / 'bin'}:{Path(sys.executable).parent}:{inherited['PATH']}"
    return {**inherited, "PATH": path, "MPLBACKEND": "agg"}


def is_shown(shown: str, said: str) -> bool:
    """Whether a page shows what was said. `...` or `…` stands for any text within a line, and for any lines where it
    is one; blanks at a line's end do not count."""
    lines = [re.split(r"\.\.\.|…", line.rstrip()) for line in shown.strip().splitlines()]
    gap = "[^\n]*"
    patterns = [
        ".*" if len(line) == 2 and not "".join(line).strip() else gap.join(map(re.escape, line)) for line in lines
    ]
    return re.fullmatch(r"[ ]*\n".join(patterns), said.strip(), re.DOTALL) is not None
