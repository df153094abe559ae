"""Answers to inside_peft.follow: count the calls, and leave the profile function as it was."""

import sys

from minipeft.course.corpus import right, wrong


def counting(
    folder, run, events=("call",), everywhere=False, restore=True, once=False, finish=True
):
    calls = {}

    def watch(frame, event, _):
        code = frame.f_code
        inside = everywhere or code.co_filename.startswith(folder)
        if event in events and inside and code.co_filename.startswith(("/house", "/elsewhere")):
            calls[code.co_name] = 1 if once else calls.get(code.co_name, 0) + 1

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        run()
    except KeyError:
        if finish:
            sys.setprofile(before)
        raise
    if restore:
        sys.setprofile(before)
    return calls


@wrong("each call counts twice")
def returns_too(folder, run):
    return counting(folder, run, events=("call", "return"))


@wrong("functions of other files are counted")
def everywhere(folder, run):
    return counting(folder, run, everywhere=True)


@wrong("each function counts once")
def once(folder, run):
    return counting(folder, run, once=True)


@wrong("is still set after `follow`")
def left_on(folder, run):
    return counting(folder, run, restore=False)


@wrong("put that one back, not None")
def reset_to_none(folder, run):
    found = counting(folder, run)
    sys.setprofile(None)
    return found


@wrong("stays set: try ... finally")
def without_finally(folder, run):
    return counting(folder, run, finish=False)


@wrong("it is swallowed")
def swallowed(folder, run):
    try:
        return counting(folder, run)
    except KeyError:
        return {}


@wrong("return a dict")
def names_only(folder, run):
    return sorted(counting(folder, run))


@wrong("nothing is counted")
def c_calls(folder, run):
    return counting(folder, run, events=("c_calls",))


@wrong("is there a `return`")
def no_return(folder, run):
    counting(folder, run)


@wrong("calls from within the folder are left out")
def from_outside_only(folder, run):
    found = counting(folder, run)
    return {**found, "inner": 2} if "inner" in found else found


@right
def counter(folder, run):
    from collections import Counter

    seen = Counter()
    before = sys.getprofile()

    def watch(frame, event, argument):
        name = frame.f_code.co_filename
        seen.update([frame.f_code.co_name] * (event == "call" and name.startswith(folder)))

    try:
        sys.setprofile(watch)
        run()
    finally:
        sys.setprofile(before)
    return seen


@right
def plain(folder, run):
    return counting(folder, run)
