"""NCCL's debug text, written as its sources format it in several versions, and what is read in it."""

from __future__ import annotations

import pytest

from bench.measure.engine.passes.nccl_debug import parse_choices, parse_setup
from bench.records.lines.parts import NcclChoice, NcclSetup


def chosen(
    function: str | None, num_bytes: int, algorithm: str | None, protocol: str | None, channels: int | None
) -> NcclChoice:
    return NcclChoice(function=function, num_bytes=num_bytes, algorithm=algorithm, protocol=protocol, channels=channels)


def info(*messages: str, thread: int = 12, stamp: str = "") -> str:
    return "".join(f"{stamp}node-01:34:{thread} [0] NCCL INFO {message}\n" for message in messages)


def named(algorithm: str = "RING", protocol: str = "LL", channels: str = " channel{Lo..Hi}={0..7}") -> str:
    return f"AllReduce: 1048576 Bytes -> Algo {algorithm} proto {protocol}{channels}"


def call(function: str, count: int = 4) -> str:
    return (
        f"{function}: opCount 1a sendbuff 0x7f0a recvbuff 0x7f0b count {count} datatype 7 op 0 root 0 "
        "comm 0x55d0 [nranks=2] stream 0x55d1"
    )


@pytest.mark.parametrize(
    ("written", "algorithm"),
    [
        ("RING", "Ring"),
        ("TREE", "Tree"),
        ("COLLNET_DIRECT", "CollnetDirect"),
        ("COLLNET_CHAIN", "CollnetChain"),
        ("NVLS", "NVLS"),
        ("NVLS_TREE", "NVLSTree"),
        ("PAT", "PAT"),
        ("CollNetDirect", "CollnetDirect"),
        ("Unknown", None),
        ("BUTTERFLY2", "BUTTERFLY2"),
    ],
)
def test_every_algorithm_has_one_spelling(written: str, algorithm: str | None) -> None:
    assert parse_choices(info(named(written))) == [chosen("AllReduce", 1048576, algorithm, "LL", 8)]


@pytest.mark.parametrize(("written", "protocol"), [("LL", "LL"), ("LL128", "LL128"), ("SIMPLE", "Simple")])
def test_every_protocol_has_one_spelling(written: str, protocol: str) -> None:
    assert [c.protocol for c in parse_choices(info(named(protocol=written)))] == [protocol]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # One channel; aligned columns, and channels that do not start at 0; RCCL's communicator behind it; no channels.
        (named(channels=" channel{Lo..Hi}={0..0}"), chosen("AllReduce", 1048576, "Ring", "LL", 1)),
        (
            "AllGather:    16 Bytes -> Algo RING  proto LL     channel{Lo..Hi}={4..5}",
            chosen("AllGather", 16, "Ring", "LL", 2),
        ),
        (
            named(channels=" channel{Lo..Hi}={0..3} comm 0x55a7a339db50"),
            chosen("AllReduce", 1048576, "Ring", "LL", 4),
        ),
        (named(channels=""), chosen("AllReduce", 1048576, "Ring", "LL", None)),
        ("Broadcast: 8 Bytes -> Algo 1 proto 0 time 12.3", chosen("Broadcast", 8, "Ring", "LL", None)),
        ("262144 Bytes -> Algo 0 proto 1 time 54.707825", chosen(None, 262144, "Tree", "LL128", None)),
        ("805306368 Bytes -> Algo 4 proto 2 time 3970.683594", chosen(None, 805306368, "NVLS", "Simple", None)),
        ("8 Bytes -> Algo 9 proto 3 time 1.0", chosen(None, 8, None, None, None)),
        (
            "AllReduce [Symmetric]: 2048 Bytes -> Kernel AllReduce_RSxLDMC_AGxSTMC nchannels 16 nthreads 512 nWorks 1",
            chosen("AllReduce", 2048, "AllReduce_RSxLDMC_AGxSTMC", None, 16),
        ),
        (
            "AllGather [Symmetric]: 64 Bytes -> Kernel AllGather_LL nchannels 1 nthreads 512",
            chosen("AllGather", 64, "AllGather_LL", None, 1),
        ),
    ],
)
def test_the_line_of_each_version(message: str, expected: NcclChoice) -> None:
    assert parse_choices(info(message)) == [expected]
    assert parse_choices(info(message, stamp="[2026-05-05 06:16:47] ")) == [expected]


def test_a_choice_without_a_name_takes_that_of_the_call_on_its_own_thread() -> None:
    text = (
        info(call("AllReduce"), thread=1)
        + info(call("Broadcast"), thread=2)
        + info("16 Bytes -> Algo 1 proto 0 time 9.1", thread=1)
        + info("32 Bytes -> Algo 0 proto 2 time 8.2", thread=2)
        + info("64 Bytes -> Algo 1 proto 0 time 7.3", thread=3)
    )
    assert [(c.function, c.num_bytes) for c in parse_choices(text)] == [
        ("AllReduce", 16),
        ("Broadcast", 32),
        (None, 64),
    ]


def test_of_several_grouped_calls_the_name_is_known_only_where_all_share_it() -> None:
    chosen = "16 Bytes -> Algo 1 proto 0 time 9.1"
    same = info(call("AllReduce"), call("AllReduce"), chosen, chosen)
    mixed = info(call("AllReduce"), call("Reduce"), chosen, chosen, call("Reduce"), chosen)
    assert [c.function for c in parse_choices(same)] == ["AllReduce", "AllReduce"]
    assert [c.function for c in parse_choices(mixed)] == [None, None, "Reduce"]


def test_what_is_no_choice_is_passed_over() -> None:
    text = info(
        "Bootstrap : Using eth0:10.0.0.12<0>",
        call("Send"),
        call("Recv"),
        "AllReduce: 16 Bytes -> Algo",  # torn
        "Connected all rings",
        "  Algorithm   |                            Tree                  |                            Ring      |",
        "     AllReduce |     8.4/   0.0 |    16.8/   0.0 |     0.0/   0.0 |",
        "Best tuning, algorithm, RING, protocol, LL",
    )
    text += (
        "AllReduce: 16 Bytes -> Algo RING proto LL channel{Lo..Hi}={0..0}\n\nnode-01:3:4 [0] NCCL WARN Cuda failure\n"
    )
    assert parse_choices(text) == []
    assert parse_choices("") == []


def test_lines_that_two_processes_wrote_into_each_other_do_not_make_a_wrong_choice() -> None:
    torn = "a:1:1 [0] NCCL INFO AllReduce: 8 Bytes -> Algo RINGb:2:2 [1] NCCL INFO " + named() + "\n proto LL\n"
    assert parse_choices(torn) == [chosen("AllReduce", 1048576, "Ring", "LL", 8)]


def test_equal_choices_are_listed_once_in_the_order_of_their_first_use() -> None:
    ring, tree = chosen("AllReduce", 8, "Ring", "LL", 1), chosen("AllReduce", 8, "Tree", "LL", 1)
    assert list(dict.fromkeys([tree, ring, tree, ring])) == [tree, ring]


def test_the_set_up_of_the_first_communicator() -> None:
    text = "NCCL version 2.27.3+cuda12.9\n" + info(
        "NCCL version 2.27.3+cuda12.9",
        "NET/IB : Using [0]mlx5_0:1/IB [RO]; OOB eth0:10.0.0.1<0>",
        "Using network IB",
        "Channel 00/24 :    0   1   2   3",
        "Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM/read",
        "24 coll channels, 24 collnet channels, 16 nvls channels, 32 p2p channels, 8 p2p channels per peer",
        "Using network Socket",
        "2 coll channels, 2 collnet channels, 0 nvls channels, 2 p2p channels, 2 p2p channels per peer",
    )
    assert parse_setup(text) == NcclSetup(
        version="2.27.3+cuda12.9",
        network="IB",
        coll_channels=24,
        collnet_channels=24,
        nvls_channels=16,
        p2p_channels=32,
    )


def test_older_set_ups_say_less() -> None:
    assert parse_setup(
        info("Channel 00/04 :    0   1", "Channel 01/04 :    0   1", "Using network AWS Libfabric")
    ) == NcclSetup(network="AWS Libfabric", coll_channels=4)
    assert parse_setup(info("8 coll channels, 8 p2p channels, 2 p2p channels per peer")) == NcclSetup(
        coll_channels=8, p2p_channels=8
    )
    assert parse_setup("") == NcclSetup()
