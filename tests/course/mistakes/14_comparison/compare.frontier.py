"""Answers to compare.frontier: the points that no other one beats."""

from minipeft.course.corpus import right, wrong


@wrong("'wide' (100 parameters, loss 0.5) is in")
def all_of_them(points):
    return sorted(points, key=lambda name: points[name])


@wrong("do you ask for less of both, and not for more?")
def more_is_better(points):
    best = [
        n for n, (c, v) in points.items() if not any(a > c and b > v for a, b in points.values())
    ]
    return sorted(best, key=lambda name: points[name])


@wrong("at least as good in both and better in one is enough to beat")
def strictly(points):
    best = [
        n for n, (c, v) in points.items() if not any(a < c and b < v for a, b in points.values())
    ]
    return sorted(best, key=lambda name: points[name])


@wrong("neither is better than the other: both stay")
def beaten_by_a_twin(points):
    best = [
        n
        for n, (c, v) in points.items()
        if not any(m != n and a <= c and b <= v for m, (a, b) in points.items())
    ]
    return sorted(best, key=lambda name: points[name])


@wrong("the fewest parameters come first")
def by_loss(points):
    best = [
        n
        for n, p in points.items()
        if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points.values())
    ]
    return sorted(best, key=lambda name: points[name][1])


@wrong("is missing")
def only_the_middle(points):
    return ["middle", "twin"]


@wrong("the result is None")
def no_return(points):
    sorted(points)


@right
def sweep_from_the_left(points):
    best, lowest = [], float("inf")
    for name, (count, loss) in sorted(points.items(), key=lambda item: item[1]):
        if loss < lowest or (best and points[best[-1]] == (count, loss)):
            best.append(name)
            lowest = min(lowest, loss)
    return best


@right
def two_functions(points):
    def beats(one, other):
        (c, v), (count, loss) = points[one], points[other]
        return c <= count and v <= loss and (c < count or v < loss)

    kept = [n for n in points if not any(beats(m, n) for m in points)]
    return sorted(kept, key=lambda n: points[n][0])
