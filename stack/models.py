"""`dear models`: what was fitted, how good it is, and a fit now."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from services.segmentation.domain.fitting import BackTest
from services.segmentation.modelling import refit_in_process
from stack.backtests import Comparison, PeerTest, as_json, compare
from stack.data_directory import DataDirectory
from stack.http import ask

PRINTED_WIDTH = 120
_FORMS = ("{:.4f}", "{:.4f}", "{:.4f}", "{:+.1%}", "{:.1%}")


def print_backtest(data: str, json_wanted: bool, with_learned_peers: bool) -> int:
    """Run the back-test of one data set and print it."""
    found = compare(data, with_learned_peers)
    if json_wanted:
        peers = {name: asdict(each) for name, each in found.peers.items()}
        sys.stdout.write(
            json.dumps({"data": data, **as_json(found.taught), "without_outcomes": as_json(found.plain), "peers": peers}) + "\n"
        )
        return 0
    console = _console()
    for table in (_forecasts(found), _bands(found.taught)):
        console.print(table)
    if with_learned_peers and not {"logistic", "lifetimes"} <= {name.partition(",")[0] for name in found.peers}:
        console.print("Not all peers are installed: make peers")
    return 0


def list_models(data_dir: Path, as_json: bool) -> int:
    """Print what was fitted to this deployment's own customers."""
    url = DataDirectory(data_dir).read_up()["services"]["segmentation"]
    fits = ask(f"{url}/v1/models")["models"]
    if as_json:
        sys.stdout.write(json.dumps(fits) + "\n")
        return 0
    if not fits:
        sys.stdout.write(
            "Nothing was fitted yet: the first fit comes with 500 buyers and 180 days of history. Until then a shipped model is used.\n"
        )
        return 0
    table = Table(title="Fitted scoring models, newest first", title_justify="left", title_style="bold", header_style="dim")
    for column in ("model", "data until", "customers", "AUC", "Brier", "in use then: AUC", "Brier", "taken"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for each in fits:
        test, current = each["back_test"], each["back_test_of_current"]
        figures = (f"{of[name]:.4f}" for of in (test, current) for name in ("auc", "brier"))
        table.add_row(each["name"], each["data_until"], f"{each['customers']:,}", *figures, "yes" if each["accepted"] else "no")
    _console().print(table)
    return 0


def fit_model(data_dir: Path, as_json: bool) -> int:
    """Fit to all customers of the running stack now, and say what became of it; 1 where there is too little to fit to."""
    up = DataDirectory(data_dir).read_up()
    segmentation = up["services"]["segmentation"]
    now, settings = ask(f"{segmentation}/v1/clock")["now"], ask(f"{segmentation}/v1/models?limit=1")["settings"]
    environment = environment_of_fits(up, settings)
    sys.stderr.write("Reading every customer's row, fitting, testing ...\n")
    code, said = asyncio.run(refit_in_process(now, environment))
    if code or as_json:
        (sys.stderr if code else sys.stdout).write(f"{said}\n")
        return 1 if code else 0
    found = json.loads(said)
    verdict = "taken" if found["accepted"] else "not taken"
    sys.stdout.write(f"{found['model']}, fitted to {found['customers']:,} customers: {verdict}. {found['why']}.\n")
    needs = found["needs"]
    segments = f" ({'; '.join(needs['segments'])})" if "segments" in needs else ""
    sys.stdout.write(f"Need segments{segments}: {'taken' if needs['accepted'] else 'not taken'}. {needs['why']}.\n")
    return 0


def environment_of_fits(up: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """What makes a fit beside the running stack the one that it would make itself, whatever this shell's own environment says."""
    told = {f"DEAR_{name.upper()}": str(value) for name, value in settings.items()}
    return {"KAFKA_BOOTSTRAP_SERVERS": up["kafka"], "MONGODB_URI": up["mongodb"], **told}


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PRINTED_WIDTH)


def _forecasts(found: Comparison) -> Table:
    test = found.plain
    title = f"Who will be gone? {found.about}: {test.customers:,} customers, the next {test.horizon_days} days, {test.gone_share:.1%} gone"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in ("", "AUC", "Brier", "calibration", "purchases forecast", "value in best tenth"):
        table.add_column(column, justify="left" if not column else "right")
    for name, each in (("Dear, signs learned", found.taught), ("Dear, without outcomes", found.plain)):
        table.add_row(name, *_figures(each))
    table.add_section()
    for name, peer in found.peers.items():
        table.add_row(name, *_figures(peer))
    return table


def _figures(test: BackTest | PeerTest) -> tuple[str, ...]:
    figures = (test.auc, test.brier, test.calibration, test.total_error, test.top_decile_value)
    return tuple(form.format(each) if each is not None else "–" for form, each in zip(_FORMS, figures, strict=True))


def _bands(test: BackTest) -> Table:
    table = Table(title="What the bands mean, signs learned", title_justify="left", title_style="bold", header_style="dim")
    for column in ("band", "of risk", "customers", "forecast risk", "really gone", "holds"):
        table.add_column(column, justify="left" if column == "band" else "right")
    for each in test.judged_bands():
        bounds, holds = f"{each.risk_from:.0%} to {each.risk_to:.0%}", "yes" if each.holds else "no"
        table.add_row(each.name.replace("_", " "), bounds, f"{each.customers:,}", f"{each.forecast:.1%}", f"{each.realised:.1%}", holds)
    return table
