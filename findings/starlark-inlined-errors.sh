#!/usr/bin/env bash
# Usage: findings/starlark-inlined-errors.sh
#
# Guess: an error inside a function has the location of the expression that failed, and
# the call is in the call stack.
# Behaviour: a function whose body is one `return` is inlined where it is called. If the
# arguments are constants, the error has the location of the call, and neither the
# function nor its line occurs in it. With a statement more, or with an argument that is
# no constant, it is as guessed. (crates.io: starlark 0.14.3)
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cargo init -q --vcs none --name finding
cargo add -q starlark@=0.14.3 --no-default-features
cat >src/main.rs <<'RUST'
use starlark::environment::{Globals, Module};
use starlark::eval::Evaluator;
use starlark::syntax::{AstModule, Dialect};

fn location(program: &str) -> String {
    let program = AstModule::parse("a.star", program.to_owned(), &Dialect::Extended).unwrap();
    Module::with_temp_heap(|module| {
        let mut evaluator = Evaluator::new(&module);
        let error = evaluator.eval_module(program, &Globals::standard()).unwrap_err();
        error.span().map(|span| span.to_string()).unwrap_or_default()
    })
}

fn main() {
    println!("one return, constant: {}", location("def f(n):\n  return n + 1\nx = f(\"a\")\n"));
    println!("two statements, constant: {}", location("def f(n):\n  n = n + 1\n  return n\nx = f(\"a\")\n"));
    println!("one return, variable: {}", location("def f(n):\n  return n + 1\ndef g(n):\n  return [f(m) for m in n]\nx = g([\"a\"])\n"));
}
RUST
CARGO_TARGET_DIR=$dir/target cargo build -q
printf 'starlark %s\n' "$(cargo metadata --format-version 1 | grep -o 'starlark@0[^"]*' | head -n 1)"
output=$(target/debug/finding)
printf '%s\n' "$output"
expected='one return, constant: a.star:3:5-11
two statements, constant: a.star:2:7-12
one return, variable: a.star:2:10-15'
[[ $output == "$expected" ]] || { echo 'the behaviour has changed' >&2; exit 1; }
