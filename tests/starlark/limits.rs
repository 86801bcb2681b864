//! Hostile and large programs.

use crate::programs::*;

#[test]
fn hostile_programs_fail_with_a_location() {
    const STEPS: &str = "the program takes more than 1000000 steps";
    const TEXT: &str = "the result is a string of more than 1 MiB";
    const LIST: &str = "the result is a list of more than 100000 elements";
    const DEEP: &str = "the program is nested too deeply";
    let nest = |open: &str, close: &str| format!("x = {}1{}\n", open.repeat(100_000), close.repeat(100_000));
    let mut wrong = Vec::new();
    let blocks: String = (0..700).map(|depth| format!("{}if True:\n", " ".repeat(depth))).collect();
    for (program, place, message) in [
        ("def f():\n  for a in range(1000000):\n    for b in range(1000000):\n      pass\nf()\n".into(), "3:5", STEPS),
        ("x = [b for a in range(1000000) for b in range(1000000) if not b]\n".into(), "1:59", STEPS),
        ("x = range(2000000000)\n".into(), "1:5", "`range` is limited to 1000000 numbers"),
        ("def f(n):\n  return f(n + 1)\nf(0)\n".into(), "2:12", "calls are nested more than 100 levels deep"),
        ("f = lambda g: g(g)\nf(f)\n".into(), "1:15", "calls are nested more than 100 levels deep"),
        ("x = \"x\" * 10000000000\n".into(), "1:5", TEXT),
        ("x = 1000000000 * \"xxxxxxxxxx\"\n".into(), "1:5", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x = x + x\n".into(), "3:7", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x += x\n".into(), "3:7", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x = \"%s%s\" % (x, x)\n".into(), "3:7", TEXT),
        ("x = \"x\"\nfor n in range(100):\n  x = \"{}{}\".format(x, x)\n".into(), "3:7", TEXT),
        ("x = \"\".join([\"x\" * 1000000] * 10000)\n".into(), "1:5", TEXT),
        ("x = (\"x\" * 1000000).replace(\"x\", \"y\" * 1000000)\n".into(), "1:5", TEXT),
        ("x = [1] * 1000000000\n".into(), "1:5", LIST),
        ("x = [1]\nfor n in range(100):\n  x = x + x\n".into(), "3:7", LIST),
        ("x = [1]\nfor n in range(100):\n  x += x\n".into(), "3:7", LIST),
        ("x = [1]\nfor n in range(100):\n  x = [x, x]\ny = str(x)\n".into(), "4:9", TEXT),
        ("x = [1]\nfor n in range(100):\n  x = [x, x]\ny = f\"{x}\"\n".into(), "4:8", TEXT),
        ("x = [1]\nfor n in range(100):\n  x = [x, x]\ny = json.encode(x)\n".into(), "4:5", TEXT),
        (
            "x = [1]\nfor n in range(60):\n  x = [x, x]\nservice(name=\"a\", image=\"x\", command=x)\n".into(),
            "4:1",
            "`command`: the generated specs exceed 64 MiB",
        ),
        (
            "x = [1]\nfor n in range(100):\n  x = [x]\nservice(name=\"a\", image=\"x\", command=x)\n".into(),
            "4:1",
            "`command`: nested more than 64 levels deep",
        ),
        ("x = 3\nfor n in range(100):\n  x = x * x\n".into(), "3:7", "the result is a number of more than 1000 digits"),
        ("x = 1 << 100000\n".into(), "1:5", "`<<` is limited to 32-bit numbers and shifts of at most 64 bits"),
        ("x = []\nfor n in range(100000):\n  x = [x]\n".into(), "1:1", "a value is nested more than 10000 levels deep"),
        (
            "def f():\n  x = []\n  for n in range(900000):\n    x.append(\"%s%s\" % (n, \"x\" * 1000))\nf()\n".into(),
            "4:5",
            "the program uses more than 64 MiB of memory",
        ),
        (
            "x = \"\\n\" * 1000000\nz = [x.splitlines() for n in range(1000)]\n".into(),
            "2:6",
            "the program uses more than 64 MiB of memory",
        ),
        (
            "x = range(1000000)\nz = [sorted(x) for n in range(1000)]\n".into(),
            "2:6",
            "the program uses more than 64 MiB of memory",
        ),
        (nest("(", ")"), "1:1003", DEEP),
        (nest("[", "]"), "1:1003", DEEP),
        (nest("-", ""), "1:1003", DEEP),
        (nest("not ", ""), "1:3997", DEEP),
        (nest("lambda: ", ""), "1:3997", DEEP),
        (format!("{blocks}{}pass\n", " ".repeat(700)), "252:", DEEP),
    ] {
        let messages = messages(&program);
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
fn large_programs_are_evaluated() {
    let program = "for n in range(5000):\n  service(name=\"a%d\" % n, image=\"x\", env={\"N\": n}, dependencies=[\"a%d\" % (n - 1)] if n else [])\n";
    assert_eq!(specs(&[("app.star", program)]).services.len(), 5000);
    let rows: String = (0..5000).map(|n| format!("    {{\"name\": \"a{n}\", \"port\": {n}}},\n")).collect();
    let program = format!("ROWS = [\n{rows}]\nfor row in ROWS:\n  service(name=row[\"name\"], image=\"x\")\n");
    assert_eq!(specs(&[("app.star", &program)]).services.len(), 5000);
}

// --- functions -------------------------------------------------------------------------------------------------------
