"""Every command and every Python snippet of the documentation, run for real.

A page is run from top to bottom in a folder of its own, as a reader would.

    ```sh       commands: run; those that install, and ``make``, are checked by their form
    ```python   run in one Python for the whole page; an error counts as output, "Type: message"
    ```console  on a Frappe bench, which is not here: their form is checked
    ```json     must be JSON
    ```mermaid  a picture: its kind is checked
    ```text     what the block before it prints; "…" stands for anything

A line above a block, which the reader sees, says what else is meant:

    `shop/tasks.py`:              the block is a file, and is written
    *In a shell of its own:*      a command that goes on; it must say "ready", or what READY has
    *In a shell of its own, which says `ready` 3 times:*
    *It ends with status 1:*      the commands' exit status
    *With no site open:*          the Python block opens what it needs

So does a line for the whole page:

    *To follow this page: a Redis, named by `FRAPPE_REDIS_QUEUE` in each shell.*
    *And free ports, named by `API_PORT` and `WEB_PORT` in each shell.*
    *Its Python runs inside `with frappe.site("site1"):`.*

A comment is for what nobody needs to see: ``<!-- signature -->`` above how a function is called.
"""

from __future__ import annotations

import configparser
import inspect
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest
import warm
from chaos.servers import Redis
from ports import free_port

import frappe_jobs
from frappe_jobs import embedded
from frappe_jobs.cli import COMMANDS, main
from frappe_jobs.commands import bench_commands
from frappe_jobs.config import variable
from frappe_jobs.testing import slowness, wait_until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TIMEOUT = 30

FENCE, HIDDEN = re.compile(r"```(\w*)$"), re.compile(r"<!-- (\w+)(?:: (.+?))? -->$")
#: What a reader sees above a block, or on a page, and what it means.
SEEN = {
    "file": re.compile(r"`([\w./-]+)`:$"),
    "background": re.compile(r"\*In a shell of its own(?:, which says `ready` (\d+) times)?:\*$"),
    "exit": re.compile(r"\*It ends with status (\d+):\*$"),
    "outside": re.compile(r"\*With no site open()?:\*$"),
    "server": re.compile(r"\*To follow this page: a Redis, named by `(\w+)` in each shell\.\*$"),
    "ports": re.compile(r"\*And (?:a free port|free ports), named by (.+) in each shell\.\*$"),
    "inside": re.compile(r'\*Its Python runs inside `with frappe\.site\("(\w+)"\):`\.\*$'),
}
PAGE_MARKS = ("server", "ports", "inside")
#: What a server says when it answers: ours, uvicorn, Flask, Django.
READY = re.compile(
    r"\bready\.?$|Uvicorn running on|^ \* Running on http|^Quit the server with", re.MULTILINE
)
#: Commands that change the reader's machine: only their form is checked.
VENV = ("python3 -m venv .venv", ". .venv/bin/activate")

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


@dataclass
class Block:
    """A fenced block, its marks, and what the page says it prints."""

    place: str
    language: str
    text: str
    marks: dict[str, str | None]
    prints: str | None = None

    @property
    def runs(self) -> bool:
        return self.language in ("sh", "python") and not self.marks.keys() & {"file", "signature"}


def blocks(text: str, name: str) -> Iterator[Block]:
    """The page's blocks; those of expected output are in the block before."""
    marks: dict[str, str | None] = {}
    found: list[Block] = []
    lines = enumerate(text.splitlines(), 1)
    for number, line in lines:
        if mark := mark_in(line):
            marks |= mark
        elif fence := FENCE.fullmatch(line):
            inside = []
            for _, content in lines:
                if content == "```":
                    break
                inside.append(content)
            block = Block(f"{name}:{number}", fence[1], "\n".join(inside), marks)
            if block.language == "text" and "file" not in marks:
                assert found and found[-1].runs, f"{block.place}: what prints this?"
                assert found[-1].prints is None, f"{block.place}: a second output"
                found[-1].prints = block.text
            else:
                found.append(block)
            marks = {}
        elif line:
            marks = {}
    return iter(found)


def mark_in(line: str) -> dict[str, str | None]:
    """The mark that the line is; empty for any other line."""
    if hidden := HIDDEN.fullmatch(line):
        assert hidden[1] in ("signature", "table"), f"the reader does not see {line!r}"
        return {hidden[1]: hidden[2]}
    return {name: found[1] for name, form in SEEN.items() if (found := form.fullmatch(line))}


def page_marks(text: str) -> dict[str, str | None]:
    marks = {name: said for line in text.splitlines() for name, said in mark_in(line).items()}
    return {name: said for name, said in marks.items() if name in PAGE_MARKS}


class Python:
    """One that runs the page's blocks, or anything else (``docs_python``)."""

    def __init__(self, forker: warm.Forker, folder: Path, environment: Mapping[str, str]) -> None:
        (stdin, writing), (reading, stdout) = os.pipe(), os.pipe()
        theirs = {**environment, "PYTHONPATH": str(ROOT / "tests")}
        streams = stdin, stdout, 2
        self._process = forker.start([], folder, theirs, *streams, module="docs_python")
        os.close(stdin)
        os.close(stdout)
        self._input, self._output = os.fdopen(writing, "w"), os.fdopen(reading)

    def run(self, code: str, place: str, site: str | None = None) -> tuple[str, bool]:
        """What the code prints, and whether it failed."""
        self._input.write(json.dumps([code, place, site]) + "\n")
        self._input.flush()
        printed, failed = json.loads(self._output.readline())
        return str(printed), bool(failed)

    def close(self) -> None:
        self._input.close()
        try:
            self._process.wait(TIMEOUT)
        finally:
            self._process.kill()
            self._output.close()


@dataclass
class Page:
    """A page's folder, with what its blocks have started there."""

    folder: Path
    state: Path  # a file for what a block leaves to the next
    marks: dict[str, str | None]
    environment: dict[str, str]
    forker: warm.Forker
    server: Redis | None = None
    background: list[subprocess.Popen[str]] = field(default_factory=list)
    python: Python | None = None
    written: int = 0

    def run(self, block: Block) -> None:
        if name := block.marks.get("file"):
            self.write(name, block)
        elif block.language == "json":
            json.loads(block.text)
        elif "signature" in block.marks:
            compile(f"def {block.text}: ...", block.place, "exec")
        elif block.language == "python":
            self.check(block, self.run_python(block))
        elif block.language == "sh":
            self.run_commands(block)
        elif block.language == "mermaid":
            assert block.text.startswith("flowchart ")
        elif block.language == "console":
            for line in block.text.splitlines():
                check_on_a_bench(line)
        else:
            raise AssertionError(f"{block.place}: nobody checks a block of {block.language!r}")

    def write(self, name: str, block: Block) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text + "\n")
        # Each time a second later: of a file of the same second Python would take what it compiled.
        self.written += 1
        os.utime(file, (self.written, self.written))
        if file.suffix == ".py":
            compile(block.text, block.place, "exec")
        if file.suffix == ".json":
            json.loads(block.text)

    def run_commands(self, block: Block) -> None:
        script = "\n".join(line for line in block.text.splitlines() if not is_form(line))
        if not script.strip():
            return
        if "background" in block.marks:
            self.start(script, int(block.marks["background"] or 1), block.place)
            return
        state = self.state
        after = f'\n{{ printf "%s\\0" "$PWD"; env -0; }} > {shlex.quote(str(state))}'
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script + after], cwd=self.folder, text=True,
            env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        printed = said_in_time(process)
        expected = int(block.marks.get("exit") or 0)
        assert process.returncode == expected, f"{block.place}: {process.returncode}\n{printed}"
        if expected == 0:  # a folder that was entered, a variable that was exported: they stay
            folder, *variables = state.read_text().rstrip("\0").split("\0")
            self.folder = Path(folder)
            self.environment = dict(item.split("=", 1) for item in variables)
        self.check(block, printed)

    def run_python(self, block: Block) -> str:
        self.python = self.python or Python(self.forker, self.folder, self.environment)
        own = "outside" in block.marks or "with frappe.site(" in block.text
        site = None if own else self.marks.get("inside")
        output, failed = self.python.run(block.text, block.place, site)
        assert not failed or block.prints is not None, f"{block.place}: {output}"
        return output

    def check(self, block: Block, output: str) -> None:
        if block.prints is not None:
            wanted, seen = tidy(block.prints), tidy(output)
            pattern = ".*?".join(map(re.escape, wanted.split("…")))
            assert re.fullmatch(
                pattern, seen, re.DOTALL
            ), f"{block.place} prints\n\n{seen}\n\nand not\n\n{wanted}"

    def start(self, command: str, ready: int, place: str) -> None:
        log = self.folder / f"background-{place.replace(':', '-')}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True,
                start_new_session=True,
            )  # fmt: skip
        self.background.append(process)
        wait_until(
            lambda: len(READY.findall(log.read_text())) >= ready or process.poll() is not None,
            TIMEOUT,
        )
        assert process.poll() is None, f"{place}: {log.read_text()}"

    def leave(self) -> None:
        """Tell all that was started to stop."""
        if self.python:
            self.python.close()
        for process in self.background:
            process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Wait for what was told to stop; it must end."""
        try:
            for process in self.background:
                wait_until(lambda process=process: process.poll() is not None, TIMEOUT)
        finally:
            for process in self.background:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            for folder in self.state.parent.rglob(embedded.FOLDER):
                embedded.stop(folder.parent)
            if self.server:
                self.server.end()


def said_in_time(process: subprocess.Popen[str]) -> str:
    """All that it prints; killed if it goes on for too long."""
    with process:
        try:
            try:
                return process.communicate(timeout=TIMEOUT)[0]
            except subprocess.TimeoutExpired:  # to look how slow the machine is takes time as well
                return process.communicate(timeout=TIMEOUT * (slowness() - 1))[0]
        finally:
            process.kill()


def tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def is_form(line: str) -> bool:
    """Whether the line is a command whose form is checked, and found right; else it is run."""
    command = line.partition("  #")[0].strip()
    if command in VENV:
        return True
    if command.startswith("make "):
        assert command.split()[1] in make_targets(), line
        return True
    if "pip install" not in command:
        return False
    if command == "pip install -e apps/frappe_jobs":  # beside Frappe, which its extra stands for
        return True
    asked = re.fullmatch(
        r"pip install (?:-e )?'(?:\.|(?:apps/)?frappe_jobs)\[([\w,]+)\]'((?: [\w-]+)*)", command
    )
    assert asked, f"not a form that is known: {line}"
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    assert set(asked[1].split(",")) <= set(extras), line
    with_tests = re.findall(r"^[\w-]+", extras["test"] + extras["web"], re.MULTILINE)
    assert set(asked[2].split()) <= set(with_tests), line
    return True


#: Commands of Frappe's own that the pages name.
FRAPPES = {"get-app", "install-app", "uninstall-app", "set-config", "run-tests"}


def check_on_a_bench(line: str) -> None:
    """Whether a bench has that command: of ours, or of Frappe's."""
    words = shlex.split(line)
    if words[0] == "./env/bin/pip":
        assert words[1] == "check" or is_form(line.removeprefix("./env/bin/")), line
    elif words[0] == "bench":
        given = words[3:] if words[1] == "--site" else words[1:]
        assert given[0] in FRAPPES | {command.name for command in bench_commands("on")}, line
    else:
        assert words[0] in ("echo", "git"), f"not a form that is known: {line}"


def make_targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.fixture(scope="module")
def left() -> Iterator[list[Page]]:
    """Pages that were told to stop: workers need seconds for it, the next page need not wait."""
    pages: list[Page] = []
    yield pages
    with ExitStack() as stack:
        for page in pages:
            stack.callback(page.close)


@pytest.fixture(scope="session")
def warm_folder(forker: warm.Forker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the ``frappe-jobs`` is whose start costs little."""
    return forker.write_command(tmp_path_factory.mktemp("bin") / "frappe-jobs").parent


@pytest.fixture
def open_page(
    tmp_path: Path, left: list[Page], forker: warm.Forker, warm_folder: Path
) -> Iterator[Callable[..., Page]]:
    opened: list[Page] = []

    def open_page(text: str, *, starts_cold: bool = False) -> Page:
        folder = tmp_path / "page"
        folder.mkdir()
        path = [] if starts_cold else [warm_folder]
        path += [Path(sys.executable).parent, os.environ["PATH"]]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FRAPPE_")} | {
            "PATH": ":".join(map(str, path)),
            "PYTHONWARNINGS": "",
        }
        marks = page_marks(text)
        page = Page(folder, tmp_path / "state", marks, environment, forker)
        opened.append(page)
        if "server" in marks:
            page.server = Redis(tmp_path / "server")
            page.server.start()
            environment[marks["server"] or variable("redis_queue")] = page.server.url
        for name in re.findall(r"`(\w+)`", marks.get("ports") or ""):
            environment[name] = str(free_port())
        return page

    yield open_page
    left += opened
    for page in opened:
        page.leave()


def run(page: Page, text: str, name: str) -> None:
    for block in blocks(text, name):
        page.run(block)


@pytest.mark.timeout(900)  # a page may have a dozen commands, all of which start from nothing
@each_page
def test_what_the_page_shows_works(path, open_page):
    text = path.read_text(encoding="utf-8")
    # The first commands that a reader types start from nothing, as they do there.
    run(open_page(text, starts_cold=path.name == "README.md"), text, path.name)


INLINE = re.compile(r"`([^`\n]+)`")


@each_page
def test_the_commands_and_links_in_its_sentences_exist(path):
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for command in INLINE.findall(prose):
        words = command.split()
        if words[0] == "frappe-jobs":
            check_command(words[1:])
        if words[0].startswith("--"):
            assert words[0] in all_options(main), command
        if words[0] == "make" and len(words) == 2:
            assert words[1] in make_targets(), command
    for target in re.findall(r"\]\(([^)#\s]+)", prose):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


def all_options(command: click.Command) -> set[str]:
    """The options of a command and of those below it."""
    named = [(*parameter.opts, *parameter.secondary_opts) for parameter in command.params]
    found = {"--help"}.union(*named)
    if isinstance(command, click.Group):
        for name in command.list_commands(None):
            found |= all_options(command.get_command(None, name))
    return found


def check_command(words: list[str]) -> None:
    """Whether each command and option that is named is one of ours."""
    group: click.Command = main
    options = {name for parameter in main.params for name in parameter.opts} | {"--help"}
    for word in words:
        name = word.partition("=")[0]
        if isinstance(group, click.Group) and (found := group.get_command(None, word)):
            group = found
            options |= {name for parameter in group.params for name in parameter.opts}
        assert not name.startswith("--") or name in options, f"{words}: no option {name}"
    assert group is not main or not words or words[0].startswith("-"), words


def test_enqueues_page_explains_each_of_its_options():
    text = (ROOT / "docs/enqueue.md").read_text()
    options = [name for name in inspect.signature(frappe_jobs.enqueue).parameters]
    assert [name for name in options if f"| `{name}" not in text and name != "kwargs"] == []


def test_the_workers_page_names_each_command_and_each_option_of_the_worker():
    text = (ROOT / "docs/worker.md").read_text()
    assert [name for name in COMMANDS if f"`frappe-jobs {name}" not in text] == []
    options = [parameter.opts[0] for parameter in main.get_command(None, "worker").params]
    assert [name for name in options if f"`{name}" not in text] == []


class TestARunThatIsNotAsThePageSays:
    """What the tests above are worth: each of these pages must be refused."""

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("```sh\nfalse\n```", "page:1: 1"),
            ("```sh\nfrappe-jobs nope\n```", "No such command"),
            ("```sh\necho one\n```\n```text\ntwo\n```", "prints"),
            ("```sh\necho one; echo two\n```\n```text\none\n```", "prints"),
            ("*It ends with status 3:*\n```sh\nexit 4\n```", "page:2: 4"),
            ("```python\nprint(1)\n```\n```text\n2\n```", "prints"),
            ("```python\nfrappe_jobs\n```", "NameError"),
            ("```python\n1 / 0\n```\n```text\nKeyError: …\n```", "prints"),
            ("```python\nprint(1)\n```\n\n```text\n1\n```\n\n```text\n1\n```", "a second output"),
            ("```text\nprinted by nobody\n```", "what prints this"),
            ("```ruby\nputs 1\n```", "nobody checks"),
            ("```\nls\n```", "nobody checks"),
            ("```console\nbench nope\n```", "bench nope"),
            ("```console\nrm -r sites\n```", "not a form"),
            ("*In a shell of its own:*\n\n```sh\necho never\n```", "page:3"),
            ("<!-- file: b.py -->\n```python\nthree = 3\n```", "the reader does not see"),
            ("```sh\nmake nonsense\n```", "nonsense"),
            ("```sh\npip install 'frappe_jobs[nonsense]'\n```", "nonsense"),
            ("```sh\npip install something-else\n```", "not a form"),
        ],
    )
    def test_is_an_error(self, text, said, open_page):
        with pytest.raises(AssertionError, match=re.escape(said)):
            run(open_page(text), text, "page")

    def test_a_json_block_must_be_json(self, open_page):
        with pytest.raises(ValueError):
            run(open_page(""), '```json\n{"half":\n```', "page")

    @pytest.mark.parametrize(
        "command", ["nope", "worker --nope", "--nope worker", "setup procfile --nope"]
    )
    def test_a_command_that_does_not_exist_is_found_in_a_sentence(self, command):
        with pytest.raises(AssertionError):
            check_command(command.split())

    def test_what_is_right_passes(self, open_page):
        text = (
            "```sh\nmkdir -p a; cd a; export GREETING=hello\n```\n"
            "`b.py`:\n\n```python\nthree = 3\n```\n"
            "```python\nimport os, b\nprint(os.environ['GREETING'], b.three)\n```\n"
            "```text\nhel… 3\n```\n"
            "```python\n1 / 0\n```\nA sentence.\n"
            "```text\nZeroDivisionError: division by zero\n```\n"
        )
        run(open_page(text), text, "page")
