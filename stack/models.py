"""`dear models`: how good the scoring models are."""

from __future__ import annotations

import json
import sys

from rich.console import Console
from rich.table import Table

from services.segmentation.domain.fitting import BackTest
from stack.backtests import Comparison, as_json, compare

PRINTED_WIDTH = 110


def print_backtest(data: str, json_wanted: bool, with_learned_peers: bool) -> int:
    """Run the back-test of one data set and print it."""
    found = compare(data, with_learned_peers)
    if json_wanted:
        peers = {name: {"auc": ranked, "brier": error} for name, (ranked, error) in found.peers.items()}
        sys.stdout.write(
            json.dumps({"data": data, **as_json(found.taught), "without_outcomes": as_json(found.plain), "peers": peers}) + "\n"
        )
        return 0
    console = Console() if sys.stdout.isatty() else Console(width=PRINTED_WIDTH)
    for table in (_forecasts(found), _bands(found.taught)):
        console.print(table)
    if with_learned_peers and not any("logistic" in name for name in found.peers):
        console.print("Learned peers are not installed: make peers")
    return 0


def _forecasts(found: Comparison) -> Table:
    test = found.plain
    title = f"Who will be gone? {found.about}: {test.customers:,} customers, the next {test.horizon_days} days, {test.gone_share:.1%} gone"
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for column in ("", "AUC", "Brier", "calibration", "purchases forecast", "value in best tenth"):
        table.add_column(column, justify="left" if not column else "right")
    for name, each in (("Dear, signs learned", found.taught), ("Dear, without outcomes", found.plain)):
        best = f"{each.top_decile_value:.1%}" if each.top_decile_value is not None else "–"
        table.add_row(name, f"{each.auc:.4f}", f"{each.brier:.4f}", f"{each.calibration:.4f}", f"{each.total_error:+.1%}", best)
    table.add_section()
    for name, (ranked, error) in found.peers.items():
        table.add_row(name, f"{ranked:.4f}", f"{error:.4f}" if error is not None else "–")
    return table


def _bands(test: BackTest) -> Table:
    table = Table(title="What the bands mean", title_justify="left", title_style="bold", header_style="dim")
    for column in ("band", "customers", "forecast risk", "really gone"):
        table.add_column(column, justify="left" if column == "band" else "right")
    for each in as_json(test)["bands"]:
        table.add_row(each["band"].replace("_", " "), f"{each['customers']:,}", f"{each['forecast']:.1%}", f"{each['realised']:.1%}")
    return table
