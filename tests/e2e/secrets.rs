//! Values of variables, env files and outputs are hidden wherever they end up, unless `--show-values` is given.

use serde_json::json;

use crate::support::process::Run;
use crate::support::project::{BUSYBOX, Project, sleeper};
use crate::support::watcher::Watcher;

/// A value that is found in any text.
const TOKEN: &str = "t0ken-4711";
/// A value that is too short to be searched for.
const SHORT: &str = "p-7";

fn project(purpose: &str) -> Project {
    let project = Project::new(purpose);
    project.write(".env", &format!("TOKEN={TOKEN}\nSHORT={SHORT}\n"));
    project
}

#[track_caller]
fn lacks_values(run: Run) -> Run {
    run.output_lacks(TOKEN).output_lacks(SHORT)
}

/// A hook whose request fails: nobody listens there.
const REQUEST: &str = "http: {url: \"http://127.0.0.1:1/${SHORT}?token=${TOKEN}\", method: POST, \
                       headers: {Authorization: \"Bearer ${TOKEN}\"}, body: \"pw=${SHORT}\"}";

#[test]
fn render_shows_references_instead_of_values() {
    let project = project("sec-render");
    std::fs::create_dir(project.specs().join("context")).unwrap();
    project.write("context/Dockerfile", "FROM scratch\n");
    let fields = format!(
        "build: {{context: context, args: {{KEY: \"${{TOKEN}}\"}}}}\nlabels: {{pw: \"x ${{SHORT}} $$\"}}\n\
         env: {{A: \"${{TOKEN}}\"}}\npost_start:\n- {REQUEST}\n- run: [./tell.sh, \"${{TOKEN}}\", \"${{SHORT}}\"]\n"
    );
    project.write("api.yaml", &sleeper("api", &fields).replace(&format!("image: {BUSYBOX}\n"), ""));
    project.write(
        "b.star",
        "service(name=\"b\", image=\"b:1\", command=[\"serve\", \"--url=http://x/\" + env(\"TOKEN\")], \
         labels={\"pw\": \"${SHORT}\"})\nprint(\"with\", env(\"TOKEN\"))\n",
    );
    for output in ["text", "json"] {
        let run = lacks_values(project.run(&["render", "--output", output]).exits(0));
        let run = run.stdout_contains("Bearer ${TOKEN}").stdout_contains("http://127.0.0.1:1/${SHORT}?token=${TOKEN}");
        run.stdout_contains("pw=${SHORT}").stdout_contains("x ${SHORT} $$").stderr_contains("with (hidden)");
        let run = project.run(&["render", "--show-values", "--output", output]).exits(0);
        let run = run.stdout_contains(&format!("Bearer {TOKEN}")).stdout_contains(&format!("pw={SHORT}"));
        run.stdout_contains(&format!("--url=http://x/{TOKEN}")).stderr_contains(&format!("with {TOKEN}"));
    }
    lacks_values(project.run(&["validate"]).exits(0)).stderr_contains("with (hidden)");
    // The references are those of the specs.
    let rendered = project.run(&["render", "api"]).exits(0).stdout.replace("(hidden)", "${TOKEN}");
    let shown = project.run(&["render", "api", "--show-values"]).exits(0).stdout;
    project.write("api.yaml", &rendered);
    let again = project.run(&["render", "api", "--show-values"]).exits(0).stdout;
    let fields = |yaml: &str| yaml.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(fields(&again), fields(&shown));
}

#[test]
fn hooks_do_not_show_values() {
    let project = project("sec-hooks");
    let run = "run: [sh, -c, \"echo says ${TOKEN}; echo ${SHORT} >/dev/null\"]";
    project.write("api.yaml", &sleeper("api", &format!("post_start:\n- {run}\n- {REQUEST}\n")));
    let plan = lacks_values(project.run(&["diff"]).exits(1));
    plan.stdout_contains("api: create");
    let up = lacks_values(project.run(&["up", "-vv"]).exits(1));
    let up = up.stderr_contains("post_start | says (hidden)").stderr_contains("post_start: run (hidden)");
    up.stderr_contains("POST (hidden): connection refused");
    let json = lacks_values(project.run(&["up", "--output", "json"]).exits(1)).json();
    assert!(json["failures"][0]["message"].as_str().unwrap().contains("POST (hidden)"), "{json}");
    lacks_values(project.run(&["down"]).exits(0));
    // A watch hides them from its clients too.
    project.write("api.yaml", &sleeper("api", &format!("on: {{ready: [{{{run}}}, {{{REQUEST}}}]}}\n")));
    let mut watcher = Watcher::start(&project);
    lacks_values(project.run(&["reload", "api"]).exits(0));
    watcher.wait_for("the request to fail", |watcher| {
        watcher.messages(0).iter().any(|message| message.contains("POST (hidden)")).then_some(())
    });
    let events = format!("{:?}", watcher.lines());
    assert!(events.contains("says (hidden)") && !events.contains(TOKEN) && !events.contains(SHORT), "{events}");
}

#[test]
fn outputs_are_not_shown() {
    let project = Project::new("sec-outputs");
    let hooks = "post_start:\n- {exec: [sh, -c, 'echo id-$((40+2)); echo a note >&2'], capture: id}\n\
                 - run: [sh, -c, 'echo key=written-$((20+2)) > $DRILLMASTER_OUTPUT']\n\
                 - run: [sh, -c, 'echo now it is written-$((20+2))']\n";
    project.write("db.yaml", &sleeper("db", hooks));
    let user = |text: &str| sleeper("user", &format!("labels: {{owner: \"{text} ${{context.id}}\"}}\n"));
    project.write("user.yaml", &user("one"));
    let up = project.up().output_lacks("id-42").stderr_contains("post_start | (hidden)");
    let up = up.stderr_contains("post_start | a note");
    assert!(up.stderr.contains("post_start | now it is (hidden)"), "{up}");
    project.write("user.yaml", &user("two"));
    let diff = project.run(&["diff"]).exits(1).output_lacks("id-42").stdout_contains("labels.owner: changed");
    assert!(!diff.stdout.contains("two"), "{diff}");
    project.run(&["diff", "--show-values"]).exits(1).stdout_contains("labels.owner: one id-42 -> two id-42");
}

#[test]
fn keys_and_pings_made_from_variables_are_not_shown() {
    let project = project("sec-keys");
    let spec = format!(
        "name: api\nimage: {BUSYBOX}\ncommand: sleep infinity\nstop_signal: KILL\ntmpfs: [\"/t${{SHORT}}\"]\n\
         ping: {{run: [sh, -c, 'exit 1', \"${{SHORT}}\"], timeout: 1s}}\npost_start: {{run: [\"./no-${{SHORT}}\"]}}\n"
    );
    project.write("api.yaml", &spec);
    let up = lacks_values(project.run(&["up"]).exits(1));
    up.stderr_contains("timed out after 1 s waiting for readiness probe (run (hidden))");
    project.write("api.yaml", &spec.replace("ping:", "# ping:"));
    let up = lacks_values(project.run(&["up"]).exits(1));
    up.stderr_contains("post_start hook failed: cannot run (hidden)");
    project.write("api.yaml", &spec.replace("ping:", "# ping:").replace("post_start:", "# post_start:"));
    lacks_values(project.run(&["up"]).exits(0));
    project.write("api.yaml", &format!("name: api\nimage: {BUSYBOX}\ncommand: sleep infinity\ntmpfs: /other\n"));
    lacks_values(project.run(&["diff"]).exits(1)).stdout_contains("tmpfs: changed");
}

#[test]
fn diff_hides_fields_made_from_variables() {
    let project = project("sec-diff");
    let spec = |argument: &str| {
        format!(
            "name: api\nimage: {BUSYBOX}\ncommand: [sh, -c, \"sleep infinity\", \"{argument}\"]\nlabels: {{a: b}}\n"
        )
    };
    project.write("api.yaml", &spec("${SHORT}"));
    lacks_values(project.up());
    project.write("api.yaml", &spec("x ${SHORT}"));
    let hidden = |project: &Project| {
        lacks_values(project.run(&["diff"]).exits(1)).stdout_contains("command: changed");
        let json = lacks_values(project.run(&["diff", "--output", "json"]).exits(1)).json();
        let cause = json!([{"field": "command", "old": "(hidden)", "new": "(hidden)"}]);
        assert_eq!(json["changes"][0]["causes"], cause);
    };
    hidden(&project);
    project.run(&["diff", "--show-values"]).exits(1).stdout_contains(SHORT);
    // The container still has the value after the variable has left the specs.
    project.write("api.yaml", &spec("none"));
    hidden(&project);
    lacks_values(project.up());
    project.write("api.yaml", &spec("other"));
    project.run(&["diff"]).exits(1).stdout_contains("\"none\"] -> ");
}

#[test]
fn errors_in_specs_and_env_files_do_not_show_values() {
    let mut project = project("sec-errors");
    project.write("api.yaml", &sleeper("api", "resources: {memory: \"${SHORT}\"}\nstop_timeout: \"${TOKEN}s\"\n"));
    for output in ["text", "json"] {
        let run = lacks_values(project.run(&["validate", "--output", output]).exits(2));
        let run = run.stderr_contains("invalid size `(hidden)`").stderr_contains("invalid duration `(hidden)`");
        run.stderr_contains("${SHORT}");
    }
    project.write("api.yaml", &sleeper("api", "env_file: ../api.env\n"));
    let env_file = project.home.path().join("api.env");
    for (line, place) in [
        ("t0ken-4711 4711", 1),
        ("KEY='t0ken-4711", 5),
        ("t0ken-4711 p-7 = p-7", 1),
        ("KEY=t0ken-4711$t0ken", 15),
        ("KEY=\"a\" t0ken-4711", 9),
        ("=t0ken-4711", 1),
    ] {
        std::fs::write(&env_file, format!("A=1\n{line}\n")).unwrap();
        for output in ["text", "json"] {
            let run = lacks_values(project.run(&["validate", "--output", output]).exits(2));
            run.stderr_contains(&format!("api.env:2:{place}"));
        }
        std::fs::write(&env_file, "A=1\n").unwrap();
        project.write(".env", &format!("A=1\n{line}\n"));
        lacks_values(project.run(&["validate"]).exits(2)).stderr_contains(&format!(".env:2:{place}"));
        project.remove(".env");
    }
    project.write("fail.star", "fail(\"no \" + env(\"TOKEN\"))\n");
    project.write(".env", &format!("TOKEN={TOKEN}\n"));
    lacks_values(project.run(&["validate"]).exits(2)).stderr_contains("no (hidden)");
    project.remove("fail.star");
    project.set_host("tcp://ann:t0ken-4711@127.0.0.1:1");
    lacks_values(project.run(&["status"]).exits(2)).stderr_contains("tcp://(hidden)@127.0.0.1:1");
}

#[test]
fn names_and_common_values_are_shown() {
    let project = Project::new("sec-public");
    project.write(".env", &format!("IMAGE={BUSYBOX}\nHOST=postgres\nDEBUG=true\nREADY=1\n"));
    let fields = "env: {HOST: \"${HOST}\", DEBUG: \"${DEBUG}\", READY: \"${READY}\", IMAGE: \"${IMAGE}\"}\n";
    let spec = sleeper("postgres", fields).replace(BUSYBOX, "\"${IMAGE}\"");
    project.write("all.yaml", &spec);
    project
        .up()
        .stderr_contains("postgres: ready")
        .stdout_contains("1 service ready (1 created)")
        .output_lacks("(hidden)");
    project.run(&["status"]).exits(0).stdout_contains("postgres  Ready");
    project.run(&["render"]).exits(0).stdout_contains(&format!("image: {BUSYBOX}"));
}
