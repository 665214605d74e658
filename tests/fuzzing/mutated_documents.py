"""Model files whose document says something else, with arrays as the reader then asks for them where that is possible.

Every function takes a :class:`forging.Case` and gives the bytes of a file, its checksums valid.
"""

import io
import json
import re
from ast import literal_eval
from math import prod

import numpy as np

from forging import DOCUMENT, STORED, parts, replaced, together, with_document

NUMBERS = [
    0, 1, -1, 2, 3, 7, 64, 65, 127, 128, 255, 256, 65536, 2**31 - 1, 2**31, 2**32, 2**53 + 1, 2**62, 2**63 - 1, 2**63,
    2**64 - 1, 2**64, 10**30, 10**400, -(2**31), -(2**63), -(2**63) - 1, -(10**30), -(10**400), 0.0, -0.0, 0.5, 1.0,
    1.5, -1.5, 5e-324, 1e-320, 1e-45, 1e-40, 1e-30, 1e-9, 1e9, 1e30, 3.4e38, 1e39, 1e300, -1e300,
    1.7976931348623157e308, float("nan"), float("inf"), float("-inf"), True, False, None,
]  # fmt: skip
TEXTS = [
    "", "0", "1", "nan", "inf", "-inf", "1e5", "x", "rsnn", "real-rsnn", "gru", "lstm", "auto", "adam", "adamw", "sgd",
    "centered_ranks", "spiking", "shared", "ESPolicy", "EvolvingConnectivityPolicy", "SurrogateGradientPPOPolicy",
    "os.system", "builtins.eval", "../../policy", "/etc/passwd", "\0", "\ud800", "\x1b]0;title\x07\x1b[2J", "é" * 300,
    "x" * 100_000, "|O", "O", "V8", "<f4", ">f4", "<f8", "<f2", "<c8", "<i8", "|i1", "|u1", "|b1", "<U3", "<M8[s]",
    "a5", "f4,f4", "(2,)f4", "(1000000,1000000)f4", "V2000000000", "float32", "Box", "Discrete", "Tuple", "Text",
]  # fmt: skip
KEYS = ["", "own", "own\0", "kind", "extra", "__class__", "__reduce__", "py/object", "network", "x" * 10_000]
RAW = {  # JSON that json.dumps does not give
    "@deep": "[" * 20_000 + "]" * 20_000,
    "@objects": '{"a":' * 5_000 + "1" + "}" * 5_000,
    "@digits": "1" * 5_000,
    "@infinity": "1e999",
    "@tiny": "1e-999",
    "@decimals": "0." + "1" * 100_000,
    "@list": "[" + "0," * 200_000 + "0]",
}


def code(case):
    """A string that would leave a trace if it were ever run."""
    return case.pick([
        f"__import__('pathlib').Path({case.marker!r}).touch()", f"touch {case.marker}", f"$(touch {case.marker})",
        f"!!python/object/apply:os.system ['touch {case.marker}']", f"cos\nsystem\n(S'touch {case.marker}'\ntR.",
    ])  # fmt: skip


def places(document):
    """Every container of a document, with its keys or positions."""
    found, waiting = [], [document]
    while waiting:
        container = waiting.pop()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        items = list(items)
        found += [(container, key) for key, _ in items]
        waiting += [value for _, value in items if isinstance(value, dict | list)]
    return found


def place(case, document):
    """A container and one of its keys, at a random depth, every top-level entry equally often."""
    container, key = document, case.pick(document)
    while isinstance(container[key], dict | list) and container[key] and case.rng.random() < 0.75:
        container = container[key]
        key = case.pick(container) if isinstance(container, dict) else int(case.rng.integers(len(container)))
    return container, key


def value(case, now, document):
    """Something to put in the place of a value."""
    container, key = case.pick(places(document))
    choices = [
        lambda: case.pick(NUMBERS),
        lambda: case.pick(NUMBERS),
        lambda: case.pick(TEXTS),
        lambda: code(case),
        lambda: case.pick(RAW),
        lambda: container[key],
        lambda: case.pick([[], {}, [[]], [None], {"a": 1}, [now], {"a": now}, [now, now], [1] * 70]),
        lambda: [case.pick(NUMBERS) for _ in range(case.rng.integers(4))],
    ]
    if isinstance(now, int | float) and not isinstance(now, bool) and abs(now) < 1e300:
        choices += [lambda: case.pick([-now, now + 1, now - 1, now * 2, float(now), now / 3])] * 3
    if isinstance(now, list | str):
        choices += [lambda: now * 2, lambda: now[::-1], lambda: now[1:]]
    return case.pick(choices)()


def encoded(document):
    text = json.dumps(document)
    for name, raw in RAW.items():
        text = text.replace(f'"{name}"', raw)
    return text.encode()


def document_values(case):
    members = parts(case.content)
    document = json.loads(members[DOCUMENT])
    for _ in range(case.rng.integers(1, 4)):
        container, key = place(case, document)
        container[key] = json.loads(json.dumps(value(case, container[key], document)))
    return together(with_document(members, encoded(document)))


def document_keys(case):
    """Entries removed, added, renamed, exchanged."""
    members = parts(case.content)
    document = json.loads(members[DOCUMENT])
    for _ in range(case.rng.integers(1, 3)):
        container, key = place(case, document)
        how = case.rng.integers(4)
        if how == 0:
            del container[key]
        elif how == 1 and isinstance(container, dict):
            container[case.pick(KEYS)] = case.pick([1, None, {}, container[key]])
        elif how == 2 and isinstance(container, dict):
            container[case.pick([*KEYS, *document])] = container.pop(key)
        else:
            other = case.pick(container) if isinstance(container, dict) else int(case.rng.integers(len(container)))
            container[key], container[other] = container[other], container[key]
    return together(with_document(members, document))


def document_text(case):
    """What is no JSON, or JSON of another kind than the library writes."""
    members = parts(case.content)
    text = members[DOCUMENT].decode()
    twice = case.pick([f'"{key}": {json.dumps(case.pick(NUMBERS))}, ' for key in json.loads(text)])
    return together(with_document(members, case.pick([
        b"", b"null", b"[]", b"{}", b"0", b'"ecpolicy"', b"\xff\xfe", b"\0" * 99, text.encode()[:-2], text.encode() * 2,
        text.encode("utf-16"), text.encode("utf-32"), b"\xef\xbb\xbf" + text.encode(), text.replace("0", "00").encode(),
        text.replace('"', "'").encode(), text.replace("{", "{" + twice, 1).encode(), text.encode() + b" // more",
        text.rstrip()[:-1].encode() + b", " + twice[:-2].encode() + b"}", b"[" * 100_000, b'{"a":' * 100_000,
        text.replace("null", case.pick(RAW.values())).encode(), b"[" + b"[]," * 300_000 + b"[]]", text.encode("cp037"),
    ])))  # fmt: skip


# Spaces and networks, with arrays of the shapes that they ask for

DTYPES = ["<f4", "<f4", "<f8", "<f2", "<i8", "|i1", "|u1", "|b1", ">f4", "<u8", "<c8", "|O", "<M8[s]", "nonsense", "V8"]
SIZES = [0, 1, 1, 2, 2, 3, 5, -1, 2**31, 2**32, 2**63 - 1, 10**7, 10**13, 10**30, 1.0, True, "2", None]
BOUNDS = [-1, 0, 1, 1, -1.0, 1.0, 255, 256, 1e39, -1e39, 1e308, -1e308, 2**63, "inf", "-inf", "nan", "x", None]
PAIR = 0x1000000000000001  # times its inverse modulo 2**64 it is 4 after overflow
WRAPPING = [[2**32, 2**32], [PAIR, 4 * pow(PAIR, -1, 2**64) % 2**64], [2**62] * 3 + [2**62 + 4], [2**63 - 1] * 2]


def space(case, depth=0):
    """A description of a space, as likely as not an impossible one."""

    def sizes():
        if case.rng.random() < 0.1:
            return case.pick(WRAPPING)
        return [case.pick(SIZES if case.rng.random() < 0.2 else [1, 2, 3]) for _ in range(case.rng.integers(1, 4))]

    def bound():
        return [case.pick(BOUNDS) for _ in range(2)] if case.rng.random() < 0.2 else case.pick(BOUNDS)

    def inner():
        return [space(case, depth + 1) for _ in range(case.rng.integers(4))]

    n, dtype = sizes(), case.pick(DTYPES)
    start = [case.pick([0, 0, 1, -3, 126, 2**63 - 1, -(2**63)]) for _ in n]
    kinds = {
        "Box": lambda: {"low": bound(), "high": bound(), "shape": n, "dtype": dtype},
        "Discrete": lambda: {"n": n[0], "start": start[0], "dtype": case.pick(["<i8", dtype])},
        "MultiDiscrete": lambda: {"nvec": n, "start": start, "dtype": case.pick(["<i8", dtype])},
        "MultiBinary": lambda: {"n": n},
        "Text": lambda: {"min_length": case.pick(SIZES), "max_length": case.pick(SIZES), "charset": case.pick(TEXTS)},
        "Tuple": lambda: {"spaces": inner()},
        "OneOf": lambda: {"spaces": inner()},
        "Dict": lambda: {"spaces": [[case.pick(["a", "b", "", 1, None, []]), part] for part in inner()]},
    }
    kind = case.pick(list(kinds)[: 8 if depth < 3 else 5])
    described = {"kind": kind, **kinds[kind]()}
    for _ in range(case.rng.integers(1, 200) if case.rng.random() < 0.03 else 0):
        described = {"kind": "Tuple", "spaces": [described]}
    return described


def network(case):
    """A network of any kind of the library."""
    times = {name: case.pick([0.5, 5.0, 16.6]) for name in ("step_ms", "dt", "tau_syn", "tau_m", "tau_out")}
    gains = dict.fromkeys(("gain_in", "gain_recurrent", "gain_out"), 1.0)
    n = {"n_neurons": case.pick([1, 2, 7, 8, 9, 63, 64, 65])}
    spiking = {**n, **times, **gains, "density": 0.5}
    if case.rng.random() < 0.3:
        own = [2.0, {"E": 2.0}, {"PV": 2.0}, [2.0] * n["n_neurons"], [[[[2.0]]]], [None], {"E": {}}]
        spiking |= {name: case.pick(own) for name in ("tau_syn", "tau_m", "threshold", "t_ref")}
    types = [None, {"a": [0.5, 1], "b": [0.5, -1]}, {"a": [1, 1]}, {"a": 1}, {"a": [2, 3]}, [], {"": [1, 1]}]
    some = [None, [0], [True], ["E"], "E", [-1], [9], [[0]], {"E": 1}]
    described = case.pick([
        {"kind": "rsnn", **spiking, "excitatory_ratio": case.pick([0, 0.3, 1])},
        {"kind": "rsnn", **spiking, "cell_types": case.pick(types), "input_neurons": case.pick(some),
         "readout_neurons": case.pick(some)},
        {"kind": "real-rsnn", **spiking, "random_start": True, "dense": False},
        {**spiking, "random_start": case.pick([True, False]), "dense": case.pick([True, False])},
        {"kind": "gru", **n}, {"kind": "lstm", **n}, {"own": "os.system"},
    ])  # fmt: skip
    if case.rng.random() < 0.3:
        described[case.pick(described)] = case.pick(NUMBERS)
    return described


WANTED = re.compile(r"array '([^']+)' .*wanted (\S+) (\([\d, ]*\))")


def fitted(case, members):
    """The file with its arrays reshaped as the reader asks for them, one complaint after the other."""
    members = dict(members)
    for _ in range(60):
        content = together(members, STORED)
        found = WANTED.search(case.complaint(content))
        if not found or prod(shape := literal_eval(found[3])) > 1 << 18:
            break
        name = f"{found[1]}.npy"
        old = np.load(io.BytesIO(members[name]), allow_pickle=False) if name in members else np.zeros(1)
        members = replaced(members, name, np.resize(old, shape).astype(found[2]))
    return together(members)


def spaces_changed(case):
    members = parts(case.content)
    document = json.loads(members[DOCUMENT])
    document[case.pick(["observation_space", "action_space"])] = space(case)
    return fitted(case, with_document(members, document))


def networks_changed(case):
    members = parts(case.content)
    document = json.loads(members[DOCUMENT])
    described = network(case)
    document["network"] = described
    if case.rng.random() < 0.3:
        document["parameters"]["network"] = network(case)
    return fitted(case, with_document(members, document))


def grafted(case):
    """Parts of another policy's document, often of another class."""
    members, donor = parts(case.content), parts(case.pick(case.others))
    document, other = json.loads(members[DOCUMENT]), json.loads(donor[DOCUMENT])
    shared = [key for key in document if key in other and key not in ("arrays", "class")]
    for key in case.rng.choice(shared, size=case.rng.integers(1, 6), replace=False):
        document[key] = other[key]
    return fitted(case, with_document(members, document))
