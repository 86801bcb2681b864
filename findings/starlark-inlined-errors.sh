#!/usr/bin/env bash
# Usage: findings/starlark-inlined-errors.sh
#
# Guess: an error inside a function has the location of the expression that failed.
# Behaviour: once a module is frozen, a function whose body is one `return` is inlined
# where it is called. If the arguments are constants, the error has the location of the
# call. Before the module is frozen, or with a statement more, it is as guessed.
# (crates.io: starlark 0.14.3)
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

/// The location of the error of `g()`, called before or after the module is frozen.
fn location(program: &str, frozen: bool) -> String {
    let program = AstModule::parse("a.star", program.to_owned(), &Dialect::Extended).unwrap();
    let frozen_module = Module::with_temp_heap(|module| {
        let mut evaluator = Evaluator::new(&module);
        evaluator.eval_module(program, &Globals::standard()).unwrap();
        if !frozen {
            let function = module.get("g").unwrap();
            let error = evaluator.eval_function(function, &[], &[]).unwrap_err();
            return Err(error.span().map(|span| span.to_string()).unwrap_or_default());
        }
        drop(evaluator);
        Ok(module.freeze().unwrap())
    });
    let frozen_module = match frozen_module {
        Ok(module) => module,
        Err(location) => return location,
    };
    let function = frozen_module.get("g").unwrap();
    Module::with_temp_heap(|module| {
        let function = module.heap().access_owned_frozen_value(&function);
        let error = Evaluator::new(&module).eval_function(function, &[], &[]).unwrap_err();
        error.span().map(|span| span.to_string()).unwrap_or_default()
    })
}

fn main() {
    let one = "def f(n):\n  return n + 1\ndef g():\n  f(\"a\")\n";
    let two = "def f(n):\n  n = n + 1\n  return n\ndef g():\n  f(\"a\")\n";
    println!("one return, before freezing: {}", location(one, false));
    println!("one return, frozen: {}", location(one, true));
    println!("two statements, frozen: {}", location(two, true));
}
RUST
CARGO_TARGET_DIR=$dir/target cargo build -q
printf 'starlark %s\n' "$(cargo metadata --format-version 1 | grep -o 'starlark@0[^"]*' | head -n 1)"
output=$(target/debug/finding)
printf '%s\n' "$output"
expected='one return, before freezing: a.star:2:10-15
one return, frozen: a.star:4:3-9
two statements, frozen: a.star:2:7-12'
[[ $output == "$expected" ]] || { echo 'the behaviour has changed' >&2; exit 1; }
