"""The `dear` command. What a command needs is imported when it runs, so that `dear --help` and every worker start fast.

Exit codes: 0 done; 1 something failed, or a total is wrong; 2 wrong usage; 3 nothing is up there.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.access.scopes import GRANTED
from shared.operator_error import OperatorError

if TYPE_CHECKING:
    from shared.clock import ClockMode
    from shared.runtime import Role

app = typer.Typer(name="dear", help="An event-driven e-CRM.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
topics_app = typer.Typer(help="The topics on the broker.", no_args_is_help=True)
events_app = typer.Typer(help="Events, as a till sends them.", no_args_is_help=True)
letters_app = typer.Typer(help="What could not be applied, and back into the stream.", no_args_is_help=True)
clock_app = typer.Typer(help="The clock of a running stack.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(events_app, name="events")
app.add_typer(letters_app, name="dead-letters")
app.add_typer(clock_app, name="clock")
models_app = typer.Typer(help="The scoring models: how good they are.", no_args_is_help=True)
app.add_typer(models_app, name="models")
import_app = typer.Typer(help="Customers, purchases and interactions from files: once, however often.", no_args_is_help=True)
app.add_typer(import_app, name="import")
segments_app = typer.Typer(help="Segments: who is in them, and rules of your own.", no_args_is_help=True)
app.add_typer(segments_app, name="segments")
keys_app = typer.Typer(help="API keys: who may ask the services what.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

DataDir = Annotated[Path, typer.Option("--data-dir", envvar="DEAR_DATA_DIR", help="Where everything is kept.")]
PortBase = Annotated[int | None, typer.Option("--port-base", min=1024, max=65000, help="Use ports N to N+8 instead of the usual ones.")]
Clock = Annotated[str | None, typer.Option("--clock", help="live or replay; fixed at the first start in a data directory.")]
Kafka = Annotated[str | None, typer.Option("--kafka", envvar="KAFKA_BOOTSTRAP_SERVERS", help="Your broker instead of the running stack's.")]
Json = Annotated[bool, typer.Option("--json", help="For a program: JSON on standard output.")]
Group = Annotated[str | None, typer.Option("--group", help="Only what this service parked.")]
ImportFile = Annotated[Path, typer.Argument(help=".csv, .tsv, .ndjson, .jsonl (also with .gz) or .parquet.")]
MappingFile = Annotated[Path | None, typer.Option("--mapping", help="TOML or JSON; without it the columns' names are guessed from.")]
Source = Annotated[str | None, typer.Option("--source", help="Names the system that the file comes from, the same in all its files.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would become of each row, and send nothing.")]
Verdicts = Annotated[Path | None, typer.Option("--verdicts", help="A verdict for each row goes there; by default to FILE.verdicts.ndjson.")]
Identity = Annotated[
    str | None, typer.Option("--identity", envvar="DEAR_IDENTITY_URL", help="Where identity answers, instead of the running stack's.")
]
Reason = Annotated[str | None, typer.Option("--reason", help="Only what was parked for this reason.")]

VAR = Path("var")
DEMO_DIRECTORIES = {"complete-journey": VAR / "demo", "cdnow": VAR / "demo-cdnow"}


@app.command()
def up(data_dir: DataDir = VAR, port_base: PortBase = None, clock: Clock = None) -> None:
    """Run the whole system on this machine until Ctrl-C.

    KAFKA_BOOTSTRAP_SERVERS and MONGODB_URI name yours instead of the embedded ones.
    """
    from stack.up import run_up

    run_up(data_dir, port_base, _clock_mode(clock))


@app.command()
def demo(
    *,
    data: Annotated[str, typer.Option(help="complete-journey (a grocer's year) or cdnow (a CD shop's log).")] = "complete-journey",
    stay: Annotated[bool, typer.Option("--stay", help="Keep everything up afterwards, until Ctrl-C.")] = False,
    speed: Annotated[float | None, typer.Option(min=0.001, help="At most so many days of history a second.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first N purchases.")] = None,
    kill_workers: Annotated[
        bool, typer.Option("--kill-workers", help="Kill every service once on the way (SIGKILL): totals hold.")
    ] = False,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", help="Where everything is kept; var/demo or var/demo-cdnow.")] = None,
    port_base: PortBase = None,
) -> None:
    """Replay a real shop's purchases through the whole system, print the report, write it as report.json, and leave."""
    if data not in DEMO_DIRECTORIES:
        raise typer.BadParameter(f"is one of {', '.join(DEMO_DIRECTORIES)}", param_hint="--data")
    from stack.demo.run import DemoOptions, run_demo

    where = data_dir or DEMO_DIRECTORIES[data]
    raise typer.Exit(run_demo(DemoOptions(where, data, port_base, stay, speed, limit, kill_workers)))


@app.command()
def status(data_dir: DataDir = VAR, as_json: Json = False) -> None:
    """Is everything well? Health, lag, memory and totals of the stack that runs in the data directory."""
    from stack.status import print_status

    raise typer.Exit(print_status(data_dir, as_json))


@app.command("export")
def export_tables(
    *,
    to: Annotated[Path, typer.Option("--to", help="The directory for the files and their manifest.json.")],
    only: Annotated[str | None, typer.Option("--only", help="Some of customers,events,scores,offers,ledger.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Only what is new since a day, a time, or the export in that directory.")
    ] = None,
    data_dir: DataDir = VAR,
    identity: Identity = None,
    segmentation: Annotated[str | None, typer.Option("--segmentation", help="The same for segmentation.")] = None,
    campaigns: Annotated[str | None, typer.Option("--campaigns", help="The same for campaigns.")] = None,
    as_json: Json = False,
) -> None:
    """Customers, events, scores, offers and the points ledger as Parquet files, for a data warehouse."""
    from stack.exporting.run import ExportOptions, run_export
    from stack.exporting.tables import NAMES

    chosen = tuple(name.strip() for name in only.split(",")) if only else NAMES
    urls = {"identity": identity, "segmentation": segmentation, "campaigns": campaigns}
    named = {service: url.rstrip("/") for service, url in urls.items() if url}
    raise typer.Exit(run_export(ExportOptions(to, chosen, since, as_json, data_dir, named)))


@topics_app.command("apply")
def topics_apply(data_dir: DataDir = VAR, kafka: Kafka = None, as_json: Json = False) -> None:
    """Create every topic of the map, or check that it is as the map says."""
    from stack.topics import apply

    raise typer.Exit(apply(data_dir, kafka, as_json))


@topics_app.command("list")
def topics_list(data_dir: DataDir = VAR, kafka: Kafka = None, as_json: Json = False) -> None:
    """The map beside what the broker has: topic id, partitions, records."""
    from stack.topics import show

    raise typer.Exit(show(data_dir, kafka, as_json))


@events_app.command("send")
def events_send(
    file: Annotated[Path, typer.Argument(help="CloudEvents, one JSON object a line; - reads standard input.")],
    topic: Annotated[str | None, typer.Option(help="Send all of them there; by default each goes where the map says for its type.")] = None,
    data_dir: DataDir = VAR,
    kafka: Kafka = None,
    as_json: Json = False,
) -> None:
    """Send events from a file. Invalid ones are named and not sent, their neighbours are; exit code 1 if there was one."""
    from stack.events import send_file

    raise typer.Exit(send_file(file, topic, data_dir, kafka, as_json))


@import_app.command("customers")
def import_customers(
    *,
    file: ImportFile,
    mapping: MappingFile = None,
    source: Source = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="When the rows were true that do not say it themselves: 2026-01-31.")] = None,
    dry_run: DryRun = False,
    verdicts: Verdicts = None,
    data_dir: DataDir = VAR,
    kafka: Kafka = None,
    as_json: Json = False,
) -> None:
    """Who somebody is, a row each. Rows that cannot be taken are named, their neighbours are taken; exit code 1 if there was one."""
    from stack.importing.options import ImportOptions
    from stack.importing.run import run_import

    raise typer.Exit(run_import(ImportOptions("customers", file, mapping, source, as_of, verdicts, dry_run, as_json, data_dir, kafka)))


@import_app.command("purchases")
def import_purchases(
    *,
    file: ImportFile,
    mapping: MappingFile = None,
    source: Source = None,
    dry_run: DryRun = False,
    verdicts: Verdicts = None,
    data_dir: DataDir = VAR,
    kafka: Kafka = None,
    as_json: Json = False,
) -> None:
    """Purchases, a row each or a row for each line of a receipt."""
    from stack.importing.options import ImportOptions
    from stack.importing.run import run_import

    raise typer.Exit(run_import(ImportOptions("purchases", file, mapping, source, None, verdicts, dry_run, as_json, data_dir, kafka)))


@import_app.command("interactions")
def import_interactions(
    *,
    file: ImportFile,
    mapping: MappingFile = None,
    source: Source = None,
    dry_run: DryRun = False,
    verdicts: Verdicts = None,
    data_dir: DataDir = VAR,
    kafka: Kafka = None,
    as_json: Json = False,
) -> None:
    """What customers did besides buying, a row each."""
    from stack.importing.options import ImportOptions
    from stack.importing.run import run_import

    raise typer.Exit(run_import(ImportOptions("interactions", file, mapping, source, None, verdicts, dry_run, as_json, data_dir, kafka)))


@import_app.command("example-mapping")
def import_example_mapping(kind: Annotated[str, typer.Argument(help="customers, purchases or interactions.")]) -> None:
    """Print a commented mapping file, to be changed."""
    from stack.importing.mapping import KINDS, example_mapping

    if kind not in KINDS:
        raise typer.BadParameter(f"is one of {', '.join(KINDS)}", param_hint="KIND")
    sys.stdout.write(example_mapping(kind))


@letters_app.command("list")
def letters_list(data_dir: DataDir = VAR, kafka: Kafka = None, group: Group = None, reason: Reason = None, as_json: Json = False) -> None:
    """What is parked."""
    from stack.dead_letters import Choice, list_letters

    raise typer.Exit(list_letters(data_dir, kafka, Choice((), group, reason, everything=True), as_json))


@letters_app.command("show")
def letters_show(letter: Annotated[str, typer.Argument(help="As `list` names it.")], data_dir: DataDir = VAR, kafka: Kafka = None) -> None:
    """One parked record, whole, as JSON."""
    from stack.dead_letters import show_letter

    raise typer.Exit(show_letter(data_dir, kafka, letter))


@letters_app.command("replay")
def letters_replay(
    *,
    letters: Annotated[list[str] | None, typer.Argument(help="As `list` names them; none: all that the options choose.")] = None,
    data_dir: DataDir = VAR,
    kafka: Kafka = None,
    group: Group = None,
    reason: Reason = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is parked.")] = False,
    as_json: Json = False,
) -> None:
    """Send parked records again, to the service that parked them."""
    from stack.dead_letters import Choice, replay_letters

    raise typer.Exit(replay_letters(data_dir, kafka, Choice(tuple(letters or ()), group, reason, everything), as_json))


@letters_app.command("purge")
def letters_purge(
    *,
    letters: Annotated[list[str] | None, typer.Argument(help="As `list` names them; none: all that the options choose.")] = None,
    data_dir: DataDir = VAR,
    kafka: Kafka = None,
    group: Group = None,
    reason: Reason = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is parked.")] = False,
    as_json: Json = False,
) -> None:
    """Give parked records up for good."""
    from stack.dead_letters import Choice, purge_letters

    raise typer.Exit(purge_letters(data_dir, kafka, Choice(tuple(letters or ()), group, reason, everything), as_json))


@clock_app.command("show")
def clock_show(data_dir: DataDir = VAR, as_json: Json = False) -> None:
    """What time it is for each service."""
    from stack.clocks import show

    raise typer.Exit(show(data_dir, as_json))


@clock_app.command("advance")
def clock_advance(
    by: Annotated[str, typer.Argument(help="How far, as 24h, 30m, 10s or 7d.")], data_dir: DataDir = VAR, as_json: Json = False
) -> None:
    """Let time pass in a stack that runs with the replay clock."""
    from stack.clocks import advance, parse_duration

    try:
        seconds = parse_duration(by)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="BY") from None
    raise typer.Exit(advance(data_dir, seconds, as_json))


@segments_app.command("list")
def segments_list(data_dir: DataDir = Path("var"), as_json: Json = False) -> None:
    """All segments, and how many customers are in each."""
    from stack.segments import list_segments

    raise typer.Exit(list_segments(data_dir, as_json))


RulesFile = Annotated[Path, typer.Argument(help="YAML or JSON: names of segments, each with `enters` and maybe `stays` and `about`.")]


@segments_app.command("apply")
def segments_apply(file: RulesFile, data_dir: DataDir = Path("var")) -> None:
    """Write the segments of a file; everyone is judged by them at once."""
    from stack.segments import apply_segments

    raise typer.Exit(apply_segments(file, data_dir))


@segments_app.command("try")
def segments_try(file: RulesFile, data_dir: DataDir = Path("var")) -> None:
    """Whom the segments of a file would hold; changes nothing."""
    from stack.segments import try_segments

    raise typer.Exit(try_segments(file, data_dir))


@segments_app.command("delete")
def segments_delete(name: str, data_dir: DataDir = Path("var")) -> None:
    """Delete a segment of your own: everyone leaves it."""
    from stack.segments import delete_segment

    raise typer.Exit(delete_segment(name, data_dir))


@models_app.command("list")
def models_list(data_dir: DataDir = VAR, as_json: Json = False) -> None:
    """What was fitted to this deployment's own customers, with its back-tests."""
    from stack.models import list_models

    raise typer.Exit(list_models(data_dir, as_json))


@models_app.command("fit")
def models_fit(data_dir: DataDir = VAR, as_json: Json = False) -> None:
    """Fit to all customers now. The model is used where its back-test is no worse than that of the one in use."""
    from stack.models import fit_model

    raise typer.Exit(fit_model(data_dir, as_json))


@models_app.command("backtest")
def models_backtest(
    *,
    data: Annotated[str, typer.Option(help="cdnow (a CD shop's log) or complete-journey (a grocer's year).")] = "complete-journey",
    peers: Annotated[bool, typer.Option(help="Also learn the peers' models (needs `make peers`).")] = True,
    as_json: Json = False,
) -> None:
    """Fit to the past, forecast who will be gone, and compare with what happened, beside what others use. Needs no running stack."""
    if data not in DEMO_DIRECTORIES:
        raise typer.BadParameter(f"is one of {', '.join(DEMO_DIRECTORIES)}", param_hint="--data")
    from stack.models import print_backtest

    raise typer.Exit(print_backtest(data, as_json, peers))


@keys_app.command("create")
def keys_create(
    *,
    scopes: Annotated[str, typer.Option(help=f"What it may, by commas, of: {', '.join(GRANTED)}")],
    name: Annotated[str | None, typer.Option(help="Whose it is; two keys of a name may be active, to replace one by the other.")] = None,
    expires_days: Annotated[float | None, typer.Option(min=0.0001, max=3660, help="It ends after so many days.")] = None,
    rate: Annotated[int | None, typer.Option(min=1, help="Requests a second, on each process that is asked; 100 unless given.")] = None,
    data_dir: DataDir = VAR,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """Make an API key and print it, this once.

    With the first key, the services ask everybody for one, on this machine too.
    """
    from stack.keys import Wanted, create_key

    wanted = Wanted(tuple(each.strip() for each in scopes.split(",") if each.strip()), name, expires_days, rate)
    raise typer.Exit(create_key(data_dir, identity, wanted, as_json))


@keys_app.command("list")
def keys_list(data_dir: DataDir = VAR, identity: Identity = None, as_json: Json = False) -> None:
    """Every key that was ever made, without its secret."""
    from stack.keys import list_keys

    raise typer.Exit(list_keys(data_dir, identity, as_json))


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="Its id, as `list` shows it.")],
    data_dir: DataDir = VAR,
    identity: Identity = None,
    as_json: Json = False,
) -> None:
    """End a key for good; every service refuses it within five seconds."""
    from stack.keys import revoke_key

    raise typer.Exit(revoke_key(data_dir, identity, key, as_json))


def _clock_mode(text: str | None) -> ClockMode | None:
    if text not in (None, "live", "replay"):
        raise typer.BadParameter("is live or replay", param_hint="--clock")
    return text  # type: ignore[return-value]


def _add_service(name: str, does: str) -> None:
    service = typer.Typer(help=f"One process of the {name} service: {does}", no_args_is_help=True)

    def run_role(role: Role) -> None:
        from shared.runtime import run

        run(f"services.{name}.app", role)

    @service.command("api", help="Answer HTTP only.")
    def api() -> None:
        run_role("api")

    @service.command("worker", help="Work on the stream only (health and metrics are still served).")
    def worker() -> None:
        run_role("worker")

    @service.command("all", help="Both in one process.")
    def both() -> None:
        run_role("all")

    app.add_typer(service, name=name)


_add_service("identity", "who is this, may we contact them, what happened?")
_add_service("segmentation", "what are they worth, what do they need, are they leaving?")
_add_service("campaigns", "what do we do about it, and did it pay?")
_add_service("notifications", "how and when do we say it?")


def main() -> None:
    """Run the command; what an operator can put right is one line, not a traceback."""
    try:
        app()
    except OperatorError as error:
        sys.stderr.write(f"dear: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
