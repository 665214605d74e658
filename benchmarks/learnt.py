"""What a policy has learnt, as its file holds it: what the drill of faults and the tests compare."""

import hashlib

import numpy as np

from ecpolicy.files import policies
from ecpolicy.rollout.seconds import SHARES
from ecpolicy.trees import leaves


def learnt(policy, *, training_state=True):
    """The numbers and arrays of a policy's file by name, such as "search/moments/mean"; without seconds.

    With ``training_state=False`` they are those of the deployed network, such as "connections/recurrent".
    """
    document, arrays = policies.to_file(policy, training_state)
    kept = {name: part for name, part in arrays.items() if not name.startswith(("history/", "prior/"))}
    return dict(leaves(document["training" if training_state else "deployed"])) | kept


VIEWS = {"seconds", *SHARES, "entropy", "flips"}  # of the history: times, and what the probabilities say themselves


def records(policy):
    """The history of a policy without its views."""
    return [{name: value for name, value in record.items() if name not in VIEWS} for record in policy.history_]


def fingerprint(policy):
    """A hash of everything learnt and of all that further training depends on."""
    digest = hashlib.sha256(repr([policy.seed_, records(policy)]).encode())
    for part in (learnt(policy), learnt(policy, training_state=False)):
        for name, value in sorted(part.items()):
            array = np.asarray(value)
            digest.update(f"{name} {array.dtype} {array.shape} ".encode())
            digest.update(repr(value).encode() if array.dtype == object else array.tobytes())
    return digest.hexdigest()
