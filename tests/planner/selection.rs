//! Plans for a selection of services.

use drillmaster::desired::Scope;

use crate::builders::*;

#[test]
fn services_out_of_scope_are_not_touched() {
    let old = desired([service("api").needs("db").command(&["one"]), service("db"), service("gone")]);
    let mut new = desired([service("api").needs("db").command(&["two"]), service("db").command(&["two"])]);
    new.scope = Scope::Only(["api".to_owned()].into());
    check(
        &new,
        &agreeing(&old),
        "
        replace api [command]
        --
        api: create shop-api.new   # command changed
        api: start shop-api.new   # command changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
    new.scope = Scope::AllBut(["api".to_owned(), "db".to_owned()].into());
    check(
        &new,
        &agreeing(&old),
        "
        remove gone []
        --
        gone: stop shop-gone   # orphan: not in the specs
        gone: remove shop-gone   # orphan: not in the specs
    ",
    );
}

#[test]
fn stopped_dependency_out_of_scope_is_awaited() {
    let mut wanted = desired([service("api").needs("db"), service("db")]);
    wanted.scope = Scope::Only(["api".to_owned()].into());
    check(
        &wanted,
        &empty(&wanted),
        "
        create api [container]
        --
    ",
    );
}
