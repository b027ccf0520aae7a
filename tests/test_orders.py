"""Orders, sections, and reading them from what the server sends."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import json
import logging
import math
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, InvalidStateError
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smok_fast.minijson import DecodingError, EncodingError, dumps
from smok_fast.pathpoint import AdviseLevel, orders
from smok_fast.pathpoint.orders import (
    Disposition,
    MessageOrder,
    Order,
    ReadOrder,
    Section,
    SysctlOrder,
    WaitOrder,
    WriteOrder,
    orders_from_list,
    sections_from_body,
    sections_from_list,
)
from smok_fast.sync import recovery

SOON = 20.0


def in_json(obj: object) -> list[Section]:
    return sections_from_body(json.dumps(obj).encode(), "application/json")


def in_minijson(obj: object) -> list[Section]:
    return sections_from_body(dumps(obj), "application/minijson")


READERS = pytest.mark.parametrize("read", [in_json, in_minijson, sections_from_list])
Reader = Callable[[Any], list[Section]]


def described(sections: list[Section]) -> str:
    return repr(sections)


class TestOrders:
    @pytest.mark.parametrize(
        ("order", "tries"),
        [
            (ReadOrder("W1", AdviseLevel.ADVISE), 3),
            (ReadOrder("W1", AdviseLevel.FORCE), 20),
            (WriteOrder("W1", 1, AdviseLevel.ADVISE), 1),
            (WriteOrder("W1", 1, AdviseLevel.FORCE), 10),
            (MessageOrder("1234"), 3),
        ],
        ids=repr,
    )
    def test_an_order_is_retried_until_its_tries_are_used_up(self, order: Any, tries: int) -> None:
        left = "times_retry" if isinstance(order, MessageOrder) else "repeat_count"
        assert getattr(order, left) == tries
        assert [order.fail() for _ in range(tries)] == [True] * (tries - 1) + [False]
        assert getattr(order, left) == 0
        assert not order.fail()

    def test_tries_are_counted_once_each_by_whichever_thread(self) -> None:
        order = ReadOrder("W1", AdviseLevel.FORCE)
        barrier = threading.Barrier(4)
        retried: list[bool] = []

        def fail() -> None:
            barrier.wait(SOON)
            retried.extend(order.fail() for _ in range(5))

        threads = [threading.Thread(target=fail) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert sorted(retried) == [False] + [True] * 19

    def test_orders_tell_what_they_were_made_of(self) -> None:
        name = "".join(["W1", "r4002"])
        read = ReadOrder(pathpoint=name, advise=AdviseLevel.FORCE)
        assert read.pathpoint is name
        assert read.advise is AdviseLevel.FORCE
        value = 2**100
        write = WriteOrder(name, value, AdviseLevel.ADVISE, stale_after=1.5)
        assert (write.pathpoint, write.advise, write.stale_after) == (name, AdviseLevel.ADVISE, 1.5)
        assert write.value is value
        assert MessageOrder("1234").uuid == "1234"
        assert WaitOrder(period=3).period == 3.0
        sysctl = SysctlOrder("update", "now")
        assert (sysctl.op_type, sysctl.op_args) == ("update", "now")

    @pytest.mark.parametrize(
        ("order", "text"),
        [
            (ReadOrder("W'1", AdviseLevel.FORCE), """ReadOrder("W'1", AdviseLevel.FORCE)"""),
            (WriteOrder("u1", "a", 0, 2.0), "WriteOrder('u1', 'a', AdviseLevel.ADVISE, 2.0)"),
            (WriteOrder("u1", 1, 0), "WriteOrder('u1', 1, AdviseLevel.ADVISE, None)"),
            (MessageOrder("1"), "MessageOrder('1')"),
            (WaitOrder(1), "WaitOrder(1.0)"),
            (SysctlOrder("a", "b"), "SysctlOrder('a', 'b')"),
        ],
        ids=str,
    )
    def test_the_repr_of_an_order_says_what_it_is(self, order: Order, text: str) -> None:
        assert repr(order) == str(order) == text
        assert described([Section([order])]) == f"[Section([{text}], Disposition.JOINABLE)]"

    def test_orders_are_equal_only_to_themselves(self) -> None:
        order = ReadOrder("W1", AdviseLevel.ADVISE)
        assert order == order  # noqa: PLR0124  # that is the point
        assert order != ReadOrder("W1", AdviseLevel.ADVISE)
        assert len({order, ReadOrder("W1", AdviseLevel.ADVISE)}) == 2
        assert isinstance(order, Order)

    def test_a_write_is_valid_until_it_is_stale(self) -> None:
        assert WriteOrder("W1", 1, AdviseLevel.ADVISE).is_valid()
        assert WriteOrder("W1", 1, AdviseLevel.ADVISE, time.time() + 3600).is_valid()
        assert not WriteOrder("W1", 1, AdviseLevel.ADVISE, time.time() - 1).is_valid()
        assert not WriteOrder("W1", 1, AdviseLevel.ADVISE, -math.inf).is_valid()

    @pytest.mark.parametrize("advise", [2, -1, "FORCE", None, 2**80])
    def test_there_are_two_advise_levels_only(self, advise: Any) -> None:
        with pytest.raises(ValueError, match=r"AdviseLevel\.ADVISE or AdviseLevel\.FORCE"):
            ReadOrder("W1", advise)
        with pytest.raises(ValueError, match=r"AdviseLevel\.ADVISE or AdviseLevel\.FORCE"):
            WriteOrder("W1", 1, advise)

    @pytest.mark.parametrize("period", [-0.1, math.nan, math.inf, 1e10])
    def test_what_no_clock_can_count_cannot_be_waited_for(self, period: float) -> None:
        with pytest.raises(ValueError, match="cannot wait"):
            WaitOrder(period)
        assert WaitOrder(threading.TIMEOUT_MAX // 1).period == threading.TIMEOUT_MAX // 1

    def test_the_name_of_a_pathpoint_is_a_text(self) -> None:
        with pytest.raises(TypeError):
            ReadOrder(1, AdviseLevel.ADVISE)
        with pytest.raises(TypeError):
            WriteOrder(None, 1, AdviseLevel.ADVISE)

    def test_a_value_that_refers_to_its_order_is_collected_with_it(self) -> None:
        class Value(list[object]):
            pass

        value = Value()
        value.append(WriteOrder("W1", value, AdviseLevel.ADVISE))  # type: ignore[arg-type]
        alive = weakref.ref(value)
        del value
        gc.collect()
        assert alive() is None


class TestFromJson:
    def test_each_type_is_built_without_being_named(self) -> None:
        read = ReadOrder.from_json({"path": "W1", "advise": 1})
        assert (read.pathpoint, read.advise) == ("W1", AdviseLevel.FORCE)
        assert ReadOrder.from_json({"path": "W1"}).advise is AdviseLevel.ADVISE
        write = WriteOrder.from_json({"path": "u1", "value": "on", "stale_after": 1})
        assert (write.pathpoint, write.value, write.stale_after) == ("u1", "on", 1.0)
        assert MessageOrder.from_json({"uuid": "1234"}).uuid == "1234"
        assert WaitOrder.from_json({"time": 1}).period == 1.0
        sysctl = SysctlOrder.from_json({"op_type": "reboot", "op_args": ""})
        assert (sysctl.op_type, sysctl.op_args) == ("reboot", "")

    @pytest.mark.parametrize(
        ("order_type", "dct", "field"),
        [
            (ReadOrder, {}, "path"),
            (WriteOrder, {"path": "W1"}, "value"),
            (WriteOrder, {"value": 1}, "path"),
            (MessageOrder, {"path": "W1"}, "uuid"),
            (WaitOrder, {}, "time"),
            (SysctlOrder, {"op_args": ""}, "op_type"),
            (SysctlOrder, {"op_type": "update"}, "op_args"),
            (Section, {"disposition": 0}, "orders"),
        ],
    )
    def test_a_missing_field_is_a_key_error(self, order_type: Any, dct: Any, field: str) -> None:
        with pytest.raises(KeyError, match=field):
            order_type.from_json(dct)

    @pytest.mark.parametrize(
        ("order_type", "dct"),
        [
            (ReadOrder, {"path": 1}),
            (ReadOrder, ["path"]),
            (ReadOrder, None),
            (ReadOrder, {"path": "W1", "advise": 7}),
            (WriteOrder, {"path": "W1", "value": [1]}),
            (WaitOrder, {"time": -1}),
            (ReadOrder, {"path": "W1", "extra": object()}),
            (Section, {"orders": "read"}),
        ],
    )
    def test_a_field_that_makes_no_sense_is_a_value_error(self, order_type: Any, dct: Any) -> None:
        with pytest.raises(ValueError, match=r"is not|not an object|no MiniJSON form"):
            order_type.from_json(dct)

    def test_a_section_keeps_its_orders_and_its_disposition(self) -> None:
        dct = {"orders": [{"type": "wait", "time": 1}], "disposition": 1}
        assert repr(Section.from_json(dct)) == (
            "Section([WaitOrder(1.0)], Disposition.CANNOT_JOIN)"
        )
        assert Section.from_json({"orders": []}).disposition is Disposition.JOINABLE


class TestReadingSections:
    @READERS
    def test_all_orders_are_read(self, read: Reader) -> None:
        sections = read(
            [
                {
                    "orders": [
                        {"type": "read", "path": "W1r4002", "advise": 1},
                        {"type": "read", "path": "zażółć\n"},
                        {"type": "write", "path": "d1", "value": -1.5, "advise": None},
                        {"type": "write", "path": "W1", "value": 7, "stale_after": 1700000000.25},
                        {"type": "write", "path": "u1", "value": "", "stale_after": None},
                        {"type": "write", "path": "B1", "value": True},
                    ],
                    "disposition": 0,
                },
                {
                    "orders": [
                        {"type": "message", "uuid": "1234", "unknown": [{"a": 1}]},
                        {"type": "wait", "time": 30},
                        {"type": "sysctl", "op_type": "baob-updated", "op_args": "key"},
                    ],
                    "disposition": 1,
                },
                {"orders": []},
            ]
        )
        assert described(sections) == (
            "[Section([ReadOrder('W1r4002', AdviseLevel.FORCE), "
            "ReadOrder('zażółć\\n', AdviseLevel.ADVISE), "
            "WriteOrder('d1', -1.5, AdviseLevel.ADVISE, None), "
            "WriteOrder('W1', 7, AdviseLevel.ADVISE, 1700000000.25), "
            "WriteOrder('u1', '', AdviseLevel.ADVISE, None), "
            "WriteOrder('B1', 1, AdviseLevel.ADVISE, None)], Disposition.JOINABLE), "
            "Section([MessageOrder('1234'), WaitOrder(30.0), "
            "SysctlOrder('baob-updated', 'key')], Disposition.CANNOT_JOIN), "
            "Section([], Disposition.JOINABLE)]"
        )

    @READERS
    @pytest.mark.parametrize(
        ("bad", "problem"),
        [
            ({}, "no type"),
            ({"path": "W1"}, "no type"),
            ({"type": None}, "no type"),
            ({"type": 1}, "type is not a text"),
            ({"type": "reset"}, 'unknown type "reset"'),
            ({"type": "a\nb" * 99}, "unknown type"),
            (None, "not an object"),
            ("read", "not an object"),
            ([{"type": "wait", "time": 1}], "not an object"),
            (1, "not an object"),
            (1.5, "not an object"),
            (True, "not an object"),
            ({"type": "read"}, "no path"),
            ({"type": "read", "path": None}, "no path"),
            ({"type": "read", "path": ["W1"]}, "path is not a text"),
            ({"type": "read", "path": "W1", "advise": 7}, "advise is not 0 or 1"),
            ({"type": "read", "path": "W1", "advise": "1"}, "advise is not 0 or 1"),
            ({"type": "read", "path": "W1", "advise": True}, "advise is not 0 or 1"),
            ({"type": "write", "path": "W1"}, "no value"),
            ({"type": "write", "path": "W1", "value": [1]}, "value is not a finite"),
            ({"type": "write", "path": "W1", "value": {}}, "value is not a finite"),
            ({"type": "write", "path": "W1", "value": 1, "stale_after": "x"}, "stale_after is not"),
            ({"type": "message"}, "no uuid"),
            ({"type": "message", "uuid": 5}, "uuid is not a text"),
            ({"type": "wait"}, "no time"),
            ({"type": "wait", "time": -0.5}, "time is not a number of seconds"),
            ({"type": "wait", "time": "1"}, "time is not a number of seconds"),
            ({"type": "wait", "time": True}, "time is not a number of seconds"),
            ({"type": "wait", "time": 1e300}, "time is not a number of seconds"),
            ({"type": "sysctl", "op_args": ""}, "no op_type"),
            ({"type": "sysctl", "op_type": "x", "op_args": {}}, "op_args is not a text"),
        ],
        ids=repr,
    )
    def test_an_order_that_makes_no_sense_is_logged_and_the_rest_is_read(
        self, read: Reader, bad: object, problem: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = {"type": "wait", "time": 1}
        [first, second] = read([{"orders": []}, {"orders": [good, bad, good]}])
        assert first.orders == []
        assert repr(second.orders) == "[WaitOrder(1.0), WaitOrder(1.0)]"
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        message = record.getMessage()
        assert message.startswith("Orders from the server: order 1 of section 1 skipped: ")
        assert problem in message
        assert "\n" not in message
        assert len(message) < 200

    @pytest.mark.parametrize("value", [math.nan, math.inf, b"bytes"])
    def test_what_only_minijson_can_hold_is_no_value_and_no_time(
        self, value: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        sent = [
            {"type": "write", "path": "d1", "value": value},
            {"type": "write", "path": "d1", "value": 1, "stale_after": value},
            {"type": "wait", "time": value},
        ]
        assert orders_from_list(sent) == []
        assert len(caplog.records) == 3

    @READERS
    @pytest.mark.parametrize(
        ("bad", "problem"),
        [
            (None, "not an object"),
            (5, "not an object"),
            ([], "not an object"),
            ({}, "orders is not a list"),
            ({"orders": None}, "orders is not a list"),
            ({"orders": {"type": "wait", "time": 1}}, "orders is not a list"),
        ],
        ids=repr,
    )
    def test_a_section_that_makes_no_sense_is_logged_and_the_rest_is_read(
        self, read: Reader, bad: object, problem: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        good = {"orders": [{"type": "wait", "time": 1}]}
        assert len(read([good, bad, good])) == 2
        [record] = caplog.records
        assert record.getMessage() == f"Orders from the server: section 1 skipped: {problem}"

    @READERS
    @pytest.mark.parametrize("disposition", [2, "JOINABLE", [0], True])
    def test_a_section_of_unknown_disposition_is_not_joined(
        self, read: Reader, disposition: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        sent = [{"orders": [{"type": "wait", "time": 1}], "disposition": disposition}]
        [section] = read(sent)
        assert not section.is_joinable()
        assert len(section.orders) == 1
        assert "disposition is not 0 or 1" in caplog.text

    @READERS
    @pytest.mark.parametrize("body", [{}, None, 1, 1.5, "sections", True])
    def test_what_is_no_list_is_an_error(self, read: Reader, body: object) -> None:
        with pytest.raises(DecodingError, match="not a list of sections"):
            read(body)

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"<html>", "text/html"),
            (b"[", "application/json"),
            (b"[]x", "application/json"),
            (b'["\xff"]', "application/json"),
            (b"[" * 100_000, "application/json"),
            (b"[]", "application/minijson"),
            (b"\x40\x00", "application/minijson"),
            (b"\x41" * 100_000, "application/minijson"),
            (b"\x10\xff\xff\xff\xff", "application/minijson"),
            (b"\x40", "application/json"),
        ],
    )
    def test_a_body_that_is_not_in_its_format_is_an_error(
        self, body: bytes, content_type: str
    ) -> None:
        with pytest.raises(DecodingError):
            sections_from_body(body, content_type)

    def test_the_content_type_says_what_the_body_is(self) -> None:
        assert sections_from_body(b"\x40", "Application/MiniJSON; charset=binary") == []
        assert sections_from_body(b" []\n", "application/json; charset=utf-8") == []
        assert sections_from_body(b"", "application/minijson") == []
        assert sections_from_body(b"", "application/json") == []

    def test_a_body_of_problems_fills_neither_the_memory_nor_the_log(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        [section] = in_json([{"orders": [{}] * 100_000}])
        assert not section
        assert len(caplog.records) == 101
        assert caplog.records[-1].getMessage().endswith("99900 more problems")

    @READERS
    @pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64 + 2**11 + 1, 10**30, -(10**60)])
    def test_an_integer_beyond_64_bits_is_the_nearest_float(
        self, read: Reader, number: int
    ) -> None:
        [section] = read([{"orders": [{"type": "write", "path": "d1", "value": number}]}])
        [order] = section.orders
        assert isinstance(order, WriteOrder)
        assert isinstance(order.value, float)
        assert order.value == float(number)

    @READERS
    @pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 0])
    def test_an_integer_of_64_bits_is_exact(self, read: Reader, number: int) -> None:
        [section] = read([{"orders": [{"type": "write", "path": "d1", "value": number}]}])
        [order] = section.orders
        assert isinstance(order, WriteOrder)
        assert order.value == number
        assert isinstance(order.value, int)

    def test_of_two_fields_with_one_name_the_last_counts_as_in_python(self) -> None:
        body = b'[{"orders": [1], "orders": [{"type": "wait", "time": 1, "time": 2}]}]'
        [section] = sections_from_body(body, "application/json")
        assert repr(section.orders) == "[WaitOrder(2.0)]"

    def test_an_object_may_have_its_names_as_values(self) -> None:
        # 60 is the value-keyed form of 50, which an encoder may choose for texts as well.
        order = b"\x63" + b"\x08\x08" + dumps("type") + dumps("wait") + dumps("time") + dumps(4)
        [section] = sections_from_body(
            b"\x41\x61" + dumps("orders") + b"\x41" + order, "application/minijson"
        )
        assert section.max_wait() == 4.0

    def test_lists_of_what_no_server_can_send_are_value_errors(self) -> None:
        with pytest.raises(ValueError, match="object has no MiniJSON form"):
            orders_from_list([{"type": "read", "path": object()}])
        with pytest.raises(ValueError, match="orders is not a list"):
            orders_from_list({"type": "read"})  # type: ignore[arg-type]


@given(
    st.integers(0, 1000), st.integers(2**52, 2**53), st.integers(-1, 1), st.sampled_from([1, -1])
)
def test_integers_of_any_length_are_rounded_as_python_rounds_them(
    bits: int, float_bits: int, off: int, sign: int
) -> None:
    halfway = (float_bits << bits) + (1 << bits >> 1)  # between two floats
    number = sign * (halfway + off)
    try:
        expected = float(number)
    except OverflowError:
        expected = None
    read = orders_from_list([{"type": "write", "path": "d1", "value": number}])
    values = [float(order.value) for order in read if isinstance(order, WriteOrder)]
    assert values == ([] if expected is None else [expected])


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["read", "write", "message", "wait", "sysctl", 0, 1, "W1r4002"]),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
FIELDS = "path", "value", "advise", "stale_after", "uuid", "time", "op_type", "op_args", "x"
ORDERS = ANYTHING | st.builds(
    lambda fields, order_type: fields | order_type,
    st.dictionaries(st.sampled_from(FIELDS), ANYTHING | SCALARS),
    st.fixed_dictionaries(
        {}, optional={"type": st.sampled_from(["read", "write", "message", "wait", "sysctl"])}
    ),
)
SECTIONS = ANYTHING | st.fixed_dictionaries(
    {}, optional={"orders": st.lists(ORDERS) | ANYTHING, "disposition": ANYTHING}
)


@given(st.lists(SECTIONS) | ANYTHING)
def test_json_and_minijson_of_the_same_sections_are_read_as_the_same(sent: Any) -> None:
    def read(reader: Reader) -> str:
        problems: list[str] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(orders, "_log", problems.extend)
            try:
                return described(reader(sent)) + repr(problems)
            except DecodingError as error:
                return str(error)

    assert read(in_json) == read(in_minijson) == read(sections_from_list)


@given(st.binary() | st.lists(SECTIONS).map(dumps), st.data())
def test_garbage_is_read_or_a_decoding_error_and_nothing_else(body: bytes, data: Any) -> None:
    spoilt = bytearray(body)
    for index in data.draw(st.lists(st.integers(0, max(len(body) - 1, 0)), max_size=3)):
        spoilt[index : index + 1] = data.draw(st.binary(max_size=2))
    for content_type in ("application/json", "application/minijson"):
        try:
            sections = sections_from_body(bytes(spoilt), content_type)
        except DecodingError:
            continue
        assert all(isinstance(section, Section) for section in sections)


@given(st.text() | st.lists(SECTIONS).map(json.dumps), st.data())
def test_garbage_of_json_is_read_or_a_decoding_error_and_nothing_else(body: str, data: Any) -> None:
    cut = data.draw(st.integers(0, len(body)))
    text = body[:cut] + data.draw(st.text(max_size=2)) + body[cut + 1 :]
    try:
        sections = sections_from_body(text.encode("utf-8", "surrogatepass"), "application/json")
    except DecodingError:
        return
    assert all(isinstance(section, Section) for section in sections)


def wait() -> WaitOrder:
    return WaitOrder(1)


class TestSection:
    def test_a_section_of_no_orders_is_false(self) -> None:
        assert not Section()
        assert Section([wait()])
        assert Section().orders is not Section().orders

    def test_a_section_does_not_share_the_list_it_was_given(self) -> None:
        given_orders = [wait()]
        section = Section(given_orders)
        section += wait()
        assert len(given_orders) == 1
        assert len(section.orders) == 2

    def test_a_section_is_joinable_unless_it_is_said_not_to_be(self) -> None:
        assert Section().is_joinable()
        assert Section().disposition is Disposition.JOINABLE
        assert not Section([], Disposition.CANNOT_JOIN).is_joinable()

    def test_the_longest_wait_counts(self) -> None:
        assert Section([ReadOrder("W1", AdviseLevel.ADVISE)]).max_wait() is None
        assert Section([WaitOrder(2), WaitOrder(5), WaitOrder(3)]).max_wait() == 5.0

    def test_orders_can_be_added_one_by_one_and_several_at_once(self) -> None:
        section = Section([wait()])
        same = section
        section += wait()
        section += [wait(), wait()]
        section += (wait(),)
        assert section is same
        assert len(section.orders) == 5

    @pytest.mark.parametrize("other", [1, None, "orders", [1], [Section()], {}])
    def test_nothing_but_orders_and_sections_can_be_added(self, other: Any) -> None:
        section = Section([wait()])
        with pytest.raises(TypeError):
            section += other
        assert len(section.orders) == 1


class TestOrdersFromTheServer:
    """They become objects when somebody looks at them."""

    SENT: Any = [
        {
            "orders": [
                {"type": "read", "path": "W1", "advise": 1},
                {"type": "write", "path": "W1", "value": 1.5, "stale_after": 1e9},
                {"type": "wait", "time": 2},
                {"type": "wait", "time": 5},
                {"type": "message", "uuid": "u"},
                {"type": "sysctl", "op_type": "a", "op_args": "b"},
            ],
            "disposition": 1,
        }
    ]

    def test_they_are_the_same_objects_whenever_they_are_looked_at(self) -> None:
        (section,) = in_json(self.SENT)
        orders = section.orders
        assert section.orders is orders
        assert all(a is b for a, b in zip(section.orders, orders, strict=True))

    def test_what_is_changed_in_them_counts(self) -> None:
        (section,) = in_json(self.SENT)
        assert (bool(section), section.max_wait()) == (True, 5.0)
        section += WaitOrder(7)
        assert section.max_wait() == 7.0
        section.orders[:] = []
        assert (bool(section), section.max_wait()) == (False, None)
        section.orders = [WaitOrder(3)]
        assert section.max_wait() == 3.0

    def test_they_are_encoded_as_the_same_whether_they_were_looked_at_or_not(self) -> None:
        (section,), (seen,) = in_json(self.SENT), in_json(self.SENT)
        assert len(seen.orders) == 6
        expected = dumps(
            [
                {
                    "orders": [
                        {"type": "read", "path": "W1", "advise": 1},
                        {
                            "type": "write",
                            "path": "W1",
                            "value": 1.5,
                            "advise": 0,
                            "stale_after": 1e9,
                        },
                        {"type": "wait", "time": 2.0},
                        {"type": "wait", "time": 5.0},
                        {"type": "message", "uuid": "u"},
                        {"type": "sysctl", "op_type": "a", "op_args": "b"},
                    ],
                    "disposition": 1,
                }
            ]
        )
        assert recovery.encode(section) == recovery.encode(seen) == expected

    def test_what_the_server_cannot_send_is_not_encoded(self) -> None:
        with pytest.raises(EncodingError):
            recovery.encode(Section([WriteOrder("W1", cast("Any", object()), AdviseLevel.ADVISE)]))
        with pytest.raises(TypeError, match="the server sends no <"):
            recovery.encode(Section([Order()]))

    def test_the_garbage_collector_does_not_look_at_them(self) -> None:
        (section,) = in_json(self.SENT)
        assert not any(map(gc.is_tracked, section.orders))
        has_gc = 1 << 14  # Py_TPFLAGS_HAVE_GC, without which they must not be hidden from it
        assert all(type(order).__flags__ & has_gc for order in section.orders)

    def test_many_threads_that_look_at_once_see_the_same(self) -> None:
        sections = in_json(self.SENT * 200)
        barrier = threading.Barrier(4)

        def look() -> list[list[Order]]:
            barrier.wait(SOON)
            return [section.orders for section in sections]

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            first, *others = [pool.submit(look) for _ in range(4)]
            for other in others:
                for one, same in zip(first.result(), other.result(), strict=True):
                    assert one is same


class TestSectionAsFuture:
    def test_it_completes_with_none_when_it_is_marked_as_done(self) -> None:
        section = Section()
        assert isinstance(section, Future)
        assert section.future is section
        assert not section.running()
        assert section.mark_as_being_executed()
        assert section.running()
        assert not section.done()
        section.mark_as_done()
        section.mark_as_done()
        assert section.done()
        assert not section.cancelled()
        assert section.result() is None
        assert section.result(timeout=0) is None
        assert section.exception() is None

    def test_a_result_that_is_not_there_in_time_is_a_timeout(self) -> None:
        with pytest.raises(concurrent.futures.TimeoutError):
            Section().result(timeout=0)

    def test_marking_it_as_being_executed_again_does_no_harm(self) -> None:
        section = Section()
        assert section.mark_as_being_executed()
        assert section.mark_as_being_executed()
        assert section.set_running_or_notify_cancel()
        section.mark_as_done()
        assert not section.mark_as_being_executed()
        assert section.result(0) is None

    def test_it_can_be_done_without_having_been_executed(self) -> None:
        section = Section()
        section.mark_as_done()
        assert not section.mark_as_being_executed()
        assert not section.cancel()
        assert section.result(0) is None

    def test_a_section_that_waits_can_be_cancelled_and_is_not_executed_then(self) -> None:
        section = Section([wait()])
        assert section.cancel() is True
        assert section.cancel() is True
        assert section.cancelled()
        assert not section.mark_as_being_executed()
        assert not section.mark_as_being_executed()
        section.mark_as_done()
        with pytest.raises(CancelledError):
            section.result(0)

    def test_a_section_that_is_executed_cannot_be_cancelled(self) -> None:
        section = Section([wait()])
        section.mark_as_being_executed()
        assert section.cancel() is False
        section.mark_as_done()
        assert section.cancel() is False
        assert not section.cancelled()

    def test_callbacks_are_called_when_it_is_done_and_when_it_is_cancelled(self) -> None:
        called: list[Future[None]] = []
        done, cancelled = Section(), Section()
        for section in (done, cancelled):
            section.add_done_callback(called.append)
        done.mark_as_done()
        cancelled.cancel()
        assert called == [done, cancelled]
        done.add_done_callback(called.append)
        assert called == [done, cancelled, done]

    def test_a_callback_may_use_the_section_from_another_thread(self) -> None:
        section = Section()
        seen: list[bool] = []

        def look(future: Future[None]) -> None:
            thread = threading.Thread(target=lambda: seen.append(future.done()))
            thread.start()
            thread.join(SOON)

        section.add_done_callback(look)
        assert section.cancel()
        assert seen == [True]

    @pytest.mark.parametrize("end", [Section.mark_as_done, Section.cancel])
    def test_waiting_for_several_ends_when_they_are_done_or_cancelled(
        self, end: Callable[[Section], object]
    ) -> None:
        sections = [Section(), Section(), Section()]
        waiting = threading.Event()
        results: list[Any] = []

        def wait_for_all() -> None:
            waiting.set()
            results.append(concurrent.futures.wait(sections, timeout=SOON))
            results.append(list(concurrent.futures.as_completed(sections, timeout=SOON)))

        thread = threading.Thread(target=wait_for_all)
        thread.start()
        assert waiting.wait(SOON)
        for section in sections:
            end(section)
        thread.join(SOON)
        [(done, not_done), completed] = results
        assert done == set(completed) == set(sections)
        assert not_done == set()

    def test_an_executor_may_report_an_exception(self) -> None:
        section = Section()
        section.mark_as_being_executed()
        section.set_exception(OSError("bus is on fire"))
        with pytest.raises(OSError, match="bus is on fire"):
            section.result(0)

    def test_whoever_asks_first_everyone_shares_one_state(self) -> None:
        # The inside of the Future is made when it is first asked for: here by many threads at once.
        for _ in range(200):
            section = Section()
            barrier = threading.Barrier(5)
            results: list[object] = []

            def cancel(
                section: Section = section,
                barrier: threading.Barrier = barrier,
                results: list[object] = results,
            ) -> None:
                barrier.wait(SOON)
                results.append(section.cancel())

            def execute(
                section: Section = section,
                barrier: threading.Barrier = barrier,
                results: list[object] = results,
            ) -> None:
                barrier.wait(SOON)
                results.append(not section.mark_as_being_executed())

            threads = [threading.Thread(target=target) for target in (cancel, execute) * 2]
            for thread in threads:
                thread.start()
            barrier.wait(SOON)
            for thread in threads:
                thread.join(SOON)
            assert results in ([True] * 4, [False] * 4)

    def test_a_section_has_all_that_a_future_of_this_python_is_made_of(self) -> None:
        section = Section()
        for name, value in vars(Future()).items():
            assert type(getattr(section, name)) is type(value)

    def test_a_future_of_an_unknown_make_is_made_by_its_constructor(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(orders, "_FUTURE_IS_KNOWN", False)
        section = Section([wait()])
        assert vars(section).keys() >= vars(Future()).keys()
        section.mark_as_done()
        assert section.result(0) is None


class TestMerging:
    def test_a_merged_section_gives_its_orders_and_completes_with_the_other(self) -> None:
        first, second, third = Section([wait()]), Section([wait(), wait()]), Section([wait()])
        called: list[Future[None]] = []
        second.add_done_callback(called.append)
        first += second
        first += third
        assert len(first.orders) == 4
        assert not second.done()
        first.mark_as_being_executed()
        first.mark_as_done()
        assert called == [second]
        assert second.result(0) is third.result(0) is None

    def test_a_merged_section_can_no_longer_be_cancelled_by_itself(self) -> None:
        first, second = Section([wait()]), Section([wait()])
        first += second
        assert second.cancel() is False
        assert not second.cancelled()

    def test_a_cancelled_section_is_not_merged(self) -> None:
        first, second = Section([wait()]), Section([wait()])
        second.cancel()
        first += second
        assert len(first.orders) == 1
        first.mark_as_done()
        assert second.cancelled()

    def test_a_section_that_is_executed_done_or_merged_already_is_not_merged(self) -> None:
        first, running, done, merged = (Section([wait()]) for _ in range(4))
        running.mark_as_being_executed()
        done.mark_as_done()
        other = Section()
        other += merged
        for section in (running, done, merged, first):
            first += section
        assert len(first.orders) == 1
        first.mark_as_done()
        assert running.running()
        assert not merged.done()

    def test_when_the_other_is_cancelled_a_merged_section_is_done_without_its_orders(self) -> None:
        first, second = Section([wait()]), Section([wait()])
        first += second
        assert first.cancel()
        assert second.done()
        with pytest.raises(CancelledError):
            second.result(0)

    def test_when_the_other_fails_a_merged_section_fails_too(self) -> None:
        first, second = Section([wait()]), Section([wait()])
        first += second
        first.set_exception(OSError("bus is on fire"))
        with pytest.raises(OSError, match="bus is on fire"):
            second.result(0)

    def test_nothing_is_merged_into_a_section_that_is_done(self) -> None:
        first, second = Section(), Section([wait()])
        first.mark_as_done()
        with pytest.raises(InvalidStateError, match="nothing can be added"):
            first += second
        assert second.mark_as_being_executed()

    def test_two_thousand_sections_merged_one_into_the_next_all_complete(self) -> None:
        sections = [Section() for _ in range(2_000)]
        for inner, outer in itertools.pairwise(sections):
            outer += inner  # noqa: PLW2901  # which leaves outer the object that it was
        sections[-1].mark_as_done()
        assert all(section.done() for section in sections)
