//! First `up`, and an unchanged state.

use std::time::Duration;

use crate::builders::*;

#[test]
fn first_up_creates_a_chain() {
    let wanted = desired([service("c").needs("b"), service("b").needs("a"), service("a")]);
    check(
        &wanted,
        &empty(&wanted),
        "
        create a [container]
        create b [container]
        create c [container]
        --
        network shop: create   # missing
        a: create shop-a.new   # no container
        a: start shop-a.new   # no container
        a: rename shop-a.new to shop-a   # candidate is ready
        b: create shop-b.new   # no container
        b: start shop-b.new   # no container
        b: rename shop-b.new to shop-b   # candidate is ready
        c: create shop-c.new   # no container
        c: start shop-c.new   # no container
        c: rename shop-c.new to shop-c   # candidate is ready
    ",
    );
}

#[test]
fn first_up_creates_a_diamond() {
    let wanted = desired([
        service("top").needs("left").needs("right"),
        service("left").needs("base"),
        service("right").needs("base"),
        service("base").ping(Duration::from_secs(10)),
    ]);
    check(
        &wanted,
        &empty(&wanted),
        "
        create base [container]
        create left [container]
        create right [container]
        create top [container]
        --
        network shop: create   # missing
        base: create shop-base.new   # no container
        base: start shop-base.new   # no container
        base: rename shop-base.new to shop-base   # candidate is ready
        left: create shop-left.new   # no container
        right: create shop-right.new   # no container
        left: start shop-left.new   # no container
        right: start shop-right.new   # no container
        left: rename shop-left.new to shop-left   # candidate is ready
        right: rename shop-right.new to shop-right   # candidate is ready
        top: create shop-top.new   # no container
        top: start shop-top.new   # no container
        top: rename shop-top.new to shop-top   # candidate is ready
    ",
    );
}

#[test]
fn unchanged_state_needs_no_steps() {
    let wanted = desired([
        service("api").needs("db").port("8080:80").env("A", "1").memory("64m"),
        service("db").volume("data", "/data").anonymous_volume("/tmp/x").ping(Duration::from_secs(9)),
    ]);
    check(
        &wanted,
        &agreeing(&wanted),
        "
        --
    ",
    );
}
