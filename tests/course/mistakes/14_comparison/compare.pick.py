"""Answers to compare.pick: the lowest sum of validation losses, NaN as infinite."""

import math

from minipeft.course.corpus import right, wrong


def sums(rows, method, field):
    total = {}
    for row in rows:
        if row["method"] == method:
            total[row["lr"]] = total.get(row["lr"], 0) + row[field]
    return total


@wrong("the choice may not look at them")
def as_it_was(rows):
    best = {}
    for method in {row["method"] for row in rows}:
        mine = [row for row in rows if row["method"] == method]
        best[method] = min(mine, key=lambda row: row["test"])["lr"]
    return best


@wrong("0.9 on b")
def one_task_alone(rows):
    best = {}
    for method in {row["method"] for row in rows}:
        mine = [row for row in rows if row["method"] == method]
        best[method] = min(mine, key=lambda row: row["validation"])["lr"]
    return best


@wrong("count NaN as infinite")
def nan_wins(rows):
    totals = {m: sums(rows, m, "validation") for m in {row["method"] for row in rows}}
    return {m: min(t, key=t.get) for m, t in totals.items()}


@wrong("the keys are ia3 and lora")
def one_method(rows):
    total = {
        lr: value for lr, value in sums(rows, "lora", "validation").items() if not math.isnan(value)
    }
    return {"lora": min(total, key=total.get)}


@right
def without_nan(rows):
    best = {}
    for method in sorted({row["method"] for row in rows}):
        total = sums(rows, method, "validation")
        best[method] = min((v, lr) for lr, v in total.items() if not math.isnan(v))[1]
    return best


@right
def nested(rows):
    return {
        m: min(
            {r["lr"] for r in rows if r["method"] == m},
            key=lambda lr, m=m: sum(
                math.inf if math.isnan(r["validation"]) else r["validation"]
                for r in rows
                if r["method"] == m and r["lr"] == lr
            ),
        )
        for m in {row["method"] for row in rows}
    }
