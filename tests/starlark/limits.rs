//! Hostile and large programs.

use std::time::Duration;

use crate::programs::*;

const MEMORY: &str = "the program uses more than 1 GiB of memory";

/// Asserts that each program has a single error, at this place and with this message.
fn assert_errors(programs: &[(&str, &str, &str)]) {
    assert_errors_within(Duration::from_secs(60), programs);
}

/// As [`assert_errors`], with this time limit.
fn assert_errors_within(limit: Duration, programs: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (program, place, message) in programs {
        let messages = messages(program, workers().timeout(limit));
        let expected = format!("specs/app.star:{place}");
        let as_expected =
            matches!(messages.as_slice(), [error] if error.starts_with(&expected) && error.ends_with(message));
        if !as_expected {
            wrong.push(format!("{:?}: {messages:?}, expected {expected} {message}", &program[..program.len().min(60)]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn programs_that_do_too_much_fail_with_a_location() {
    const STEPS: &str = "the program takes more than 1000000 steps";
    const CALLS: &str = "calls are nested more than 100 levels deep";
    assert_errors(&[
        ("def f():\n  for a in range(1000000):\n    for b in range(1000000):\n      pass\nf()\n", "3:5", STEPS),
        ("x = [b for a in range(1000000) for b in range(1000000) if not b]\n", "1:59", STEPS),
        ("def f(n):\n  return f(n + 1)\nf(0)\n", "2:10", CALLS),
        ("f = lambda g: g(g)\nf(f)\n", "1:15", CALLS),
        (
            "x = [1]\nfor n in range(60):\n  x = [x, x]\nservice(name=\"a\", image=\"x\", command=x)\n",
            "4:1",
            "`command`: the generated specs exceed 64 MiB",
        ),
        (
            "x = [1]\nfor n in range(100):\n  x = [x]\nservice(name=\"a\", image=\"x\", command=x)\n",
            "4:1",
            "`command`: nested more than 64 levels deep",
        ),
        (
            "def f():\n  x = []\n  for n in range(900000):\n    x.append(\"%s%s\" % (n, \"x\" * 1000))\nf()\n",
            "3:3",
            "the program uses more than 64 MiB of memory",
        ),
        ("x = 1 << 100000000000\n", "1:5", "integer overflow computing left shift"),
        ("x = \"x\" * 10000000000\n", "1:5", "integer value is too big to fit in i32: 10000000000"),
    ]);
}

#[test]
fn programs_that_are_nested_too_deeply_fail_with_a_location() {
    let nest = |open: &str, close: &str| format!("x = {}1{}\n", open.repeat(100_000), close.repeat(100_000));
    let blocks: String = (0..700).map(|depth| format!("{}if True:\n", " ".repeat(depth))).collect();
    let blocks = format!("{blocks}{}pass\n", " ".repeat(700));
    for (program, place) in [
        (nest("(", ")"), "1:1003"),
        (nest("[", "]"), "1:1003"),
        (nest("-", ""), "1:1003"),
        (nest("not ", ""), "1:3997"),
        (nest("lambda: ", ""), "1:3997"),
        (blocks, "252:"),
    ] {
        assert_errors(&[(&program, place, "the program is nested too deeply")]);
    }
}

#[test]
fn programs_that_need_too_much_memory_fail_with_a_location() {
    assert_errors(&[
        ("x = 2000000000 * \"x\"\n", "1:1", MEMORY),
        ("x = \"x\"\nfor n in range(100):\n  x = x + x\n", "3:3", MEMORY),
        ("x = \"x\"\nfor n in range(100):\n  x += x\n", "3:3", MEMORY),
        ("x = \"x\"\nfor n in range(100):\n  x = \"%s%s\" % (x, x)\n", "3:3", MEMORY),
        ("x = \"x\"\nfor n in range(100):\n  x = \"{}{}\".format(x, x)\n", "3:3", MEMORY),
        ("y = \"x\" * 1000000\nx = \"\".join([y] * 10000)\n", "2:1", MEMORY),
        ("x = (\"x\" * 1000000).replace(\"x\", \"y\" * 1000000)\n", "1:1", MEMORY),
        ("x = [1] * 1000000000\n", "1:1", MEMORY),
        ("x = [1]\nfor n in range(100):\n  x = x + x\n", "3:3", MEMORY),
    ]);
}

#[test]
fn programs_that_do_not_end_fail_with_a_location() {
    const SHARED: &str = "x = (1,)\nfor n in range(60):\n  x = (x, x)\ny = (1,)\nfor n in range(60):\n  y = (y, y)\n";
    for expression in ["x == y", "{x: 1}", "sorted([x, y])", "fail(x)"] {
        let program = format!("{SHARED}z = {expression}\n");
        let error = (program.as_str(), "7:1", "the program takes longer than 3 s");
        assert_errors_within(Duration::from_secs(3), &[error]);
    }
}

#[test]
fn values_that_are_nested_too_deeply_fail_with_a_location() {
    let program = "x = []\nfor n in range(400000):\n  x = [x]\ny = str(x)\n";
    assert_errors(&[(program, "4:1", "values or calls are nested too deeply")]);
}

#[test]
fn patterns_with_many_stars_are_searched_once() {
    let deep = (0..20).fold(String::new(), |path, _| path + "a/");
    let program = format!("print(glob(\"{}*.txt\"))\nservice(name=\"a\", image=\"x\")\n", "**/*/".repeat(8));
    let specs = specs(&[("app.star", &program), (&format!("{deep}b.txt"), "")]);
    assert_eq!(specs.printed, [format!("app.star: [\"{deep}b.txt\"]")]);
}

#[test]
fn augmented_assignments_are_evaluated() {
    let program = "x = 2\nx *= 21\nx %= 40\nx <<= 2\nx += 1\nservice(name=\"a%d\" % x, image=\"x\")\n";
    assert_eq!(specs(&[("app.star", program)]).services[0].spec.container.name.to_string(), "a9");
}

#[test]
fn large_programs_are_evaluated() {
    let program = "for n in range(5000):\n  service(name=\"a%d\" % n, image=\"x\", env={\"N\": n}, dependencies=[\"a%d\" % (n - 1)] if n else [])\n";
    assert_eq!(specs(&[("app.star", program)]).services.len(), 5000);
    let rows: String = (0..5000).map(|n| format!("    {{\"name\": \"a{n}\", \"port\": {n}}},\n")).collect();
    let program = format!("ROWS = [\n{rows}]\nfor row in ROWS:\n  service(name=row[\"name\"], image=\"x\")\n");
    assert_eq!(specs(&[("app.star", &program)]).services.len(), 5000);
}
