//! Resolution of checked specs to the desired state: full names, absolute paths, defaults and fingerprints.
//!
//! Pure: directories are arguments. Resolving checked specs cannot fail.

mod config;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fingerprint::Fingerprint;
use super::network::{self, Declared};
use super::order::Needs;
use super::outputs::Outputs;
use super::requirements::requirements;
use super::secrets::secret_fields;
use super::volume::{declared, engine_name};
use super::{Build, Dependency, Desired, Env, GroupEvent, Hook, HookPoint, Kind, LifecycleEvent, Mode, Scope, Service};
use crate::identity;
use crate::spec::hook::{GroupOn, HostHook};
use crate::spec::model::{self, Condition};
use crate::spec::secrets::{SecretFields, has_secret_hook};
use crate::spec::value::ImageRef;
use crate::spec::{Loaded, RESERVED_NETWORKS, Specs};
use crate::types::ServiceName;
use config::{config, mounted_files};
use files::Definitions;

/// Directories and options that specs are resolved against.
#[derive(Debug, Clone, Copy)]
pub struct ResolveContext<'a> {
    /// Value of `--group`. Overrides the specs.
    pub group: Option<&'a str>,
    /// Absolute path of the spec directory.
    pub directory: &'a str,
    /// The user's home directory, for `~/`.
    pub home: Option<&'a str>,
}

/// Returns the name of the group: `--group`, else the name in the `Group` document, else the slug of the parent of the
/// spec directory.
pub fn group_name(specs: Option<&Specs>, context: ResolveContext<'_>) -> String {
    context
        .group
        .map(str::to_owned)
        .or_else(|| specs?.group.as_ref()?.spec.name.as_ref().map(ToString::to_string))
        .unwrap_or_else(|| {
            let mut parts = context.directory.rsplit('/').filter(|part| !part.is_empty());
            let spec_directory = parts.next();
            slug(parts.next().or(spec_directory).unwrap_or_default())
        })
}

/// Returns the default name of a group's network: the group's name, with a suffix if the engine reserves that name.
pub fn network_name(group: &str) -> String {
    if RESERVED_NETWORKS.contains(&group) { format!("{group}-net") } else { group.to_owned() }
}

/// Converts text to a valid name: lower case, invalid characters replaced by `-`. Returns `drillmaster` if nothing is left.
pub fn slug(text: &str) -> String {
    let text: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '-' })
        .take(63)
        .collect();
    let text = text.trim_matches(['-', '_']);
    if text.is_empty() { "drillmaster".into() } else { text.into() }
}

/// Resolves all specs, with the scope and mode of an `up` of all services.
pub fn resolve(specs: &Specs, context: ResolveContext<'_>) -> Desired {
    let group = group_name(Some(specs), context);
    let Declared { names, networks } = network::declared(specs.group.as_ref(), &group, &network_name(&group));
    let others = Others::of(specs);
    let resolved = |services: &[Loaded<model::Service>]| -> BTreeMap<ServiceName, Service> {
        services
            .iter()
            .map(|loaded| (loaded.spec.replicas, service(loaded, &others, &group, &names, context)))
            .flat_map(|(number, service)| replicas(number, service))
            .map(|service| (service.name.clone(), service))
            .collect()
    };
    let (services, retired) = (resolved(&specs.services), resolved(&specs.inactive));
    let profiles = |loaded: &Loaded<model::Service>| {
        let container = &loaded.spec.container;
        (container.name.to_string(), container.profiles.iter().map(ToString::to_string).collect())
    };
    let inactive = specs.inactive.iter().map(profiles).collect();
    let is_idle = |loaded: &&Loaded<model::Service>| loaded.spec.replicas == Some(0);
    let idle = specs.services.iter().filter(is_idle).map(|loaded| loaded.spec.container.name.to_string()).collect();
    Desired {
        volumes: specs.group.as_ref().map(|loaded| declared(loaded, &group)).unwrap_or_default(),
        group,
        source: context.directory.to_owned(),
        project: specs.project.clone(),
        adopted: BTreeSet::new(),
        takeover: BTreeSet::new(),
        network: names.get(model::DEFAULT_NETWORK).cloned().unwrap_or_default(),
        networks,
        services,
        idle,
        on: specs.group.as_ref().map(|group| group_hooks(&group.spec.on, &group.secrets)).unwrap_or_default(),
        outputs: specs.group.as_ref().map(|group| Outputs::of(&group.uses)).unwrap_or_default(),
        inactive,
        retired,
        scope: Scope::All,
        mode: Mode::Reconcile { purge_volumes: false, purge_images: false },
    }
}

impl Desired {
    /// Returns true if what carries this source label belongs to the spec directory.
    pub fn owns(&self, source: &str) -> bool {
        source == self.source || self.adopted.contains(source)
    }

    /// Returns the dependencies by service name.
    pub fn needs(&self) -> Needs {
        let mut needs: Needs = self.idle.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
        for service in self.services.values() {
            let names = service.dependencies.iter().map(|dependency| dependency.name.clone());
            needs.entry(service.service.clone()).or_default().extend(names);
        }
        needs
    }

    /// Dependencies by service name, with the services that set the outputs it uses.
    pub fn needs_with_outputs(&self) -> Needs {
        let mut needs = self.needs();
        for service in self.services.values() {
            let setters = service.outputs.uses.iter().flat_map(|key| self.setters_of(key));
            let names = setters.map(|setter| setter.service.clone()).filter(|name| *name != service.service);
            needs.entry(service.service.clone()).or_default().extend(names);
        }
        needs
    }
}

/// Facts on all services that are needed to resolve a single one.
struct Others<'a> {
    definitions: Definitions<'a>,
    active: BTreeSet<&'a str>,
    jobs: BTreeSet<&'a str>,
    /// Producers of outputs, by key.
    producers: BTreeMap<&'a str, &'a str>,
    /// Volumes with settings.
    volumes: Option<&'a model::Entries<model::GroupVolume>>,
}

impl<'a> Others<'a> {
    fn of(specs: &'a Specs) -> Others<'a> {
        let all = || specs.services.iter().map(|loaded| &loaded.spec);
        let jobs = all().filter(|spec| spec.kind != Kind::Service).map(|spec| spec.container.name.as_str()).collect();
        let captured =
            |spec: &'a model::Service| spec.captures().map(|key| (key.as_str(), spec.container.name.as_str()));
        let active = all().map(|spec| spec.container.name.as_str()).collect();
        let definitions = Definitions::of(specs);
        let volumes = specs.group.as_ref().map(|group| &group.spec.volumes);
        Others { definitions, active, jobs, producers: all().flat_map(captured).collect(), volumes }
    }

    /// Returns the name of a volume on the engine.
    fn volume_name(&self, name: &str, group: &str) -> String {
        let entry = self.volumes.and_then(|volumes| volumes.get(name)).cloned().flatten();
        engine_name(name, &entry.unwrap_or_default(), group)
    }

    /// Returns its dependencies, including the producers of outputs that its container uses.
    fn dependencies(&self, loaded: &Loaded<model::Service>) -> Vec<Dependency> {
        let spec = &loaded.spec;
        let exists =
            |dependency: &&model::Dependency| dependency.required || self.active.contains(dependency.name.as_str());
        let written = spec.container.dependencies.iter().filter(exists).map(|dependency| Dependency {
            name: dependency.name.to_string(),
            condition: condition(dependency.condition, self.jobs.contains(dependency.name.as_str())),
            restart: dependency.restart,
        });
        let mut dependencies: Vec<Dependency> = written.collect();
        for (_, name) in model::shared_namespaces(&spec.container) {
            // A namespace ends with its container.
            match dependencies.iter_mut().find(|dependency| dependency.name == name.as_str()) {
                Some(dependency) => dependency.restart = true,
                None => {
                    let condition = condition(None, self.jobs.contains(name.as_str()));
                    dependencies.push(Dependency { name: name.to_string(), condition, restart: true });
                }
            }
        }
        let made_from = loaded.uses.iter().filter(|found| model::is_needed_at_creation(&found.field));
        for producer in made_from.filter_map(|found| self.producers.get(found.key.as_str()).copied()) {
            let itself = producer == spec.container.name.as_str();
            if !itself && dependencies.iter().all(|dependency| dependency.name != producer) {
                let condition = condition(None, self.jobs.contains(producer));
                dependencies.push(Dependency { name: producer.to_owned(), condition, restart: false });
            }
        }
        dependencies
    }
}

/// Expands a service to its replicas. Their configuration does not depend on their number.
fn replicas(number: Option<u32>, service: Service) -> Vec<Service> {
    let Some(number) = number else { return vec![service] };
    let replica = |n| Service {
        name: identity::instance_name(&service.service, Some(n)).into(),
        replica: Some(n),
        ..service.clone()
    };
    (1..=number).map(replica).collect()
}

fn service(
    loaded: &Loaded<model::Service>,
    others: &Others<'_>,
    group: &str,
    networks: &BTreeMap<String, String>,
    context: ResolveContext<'_>,
) -> Service {
    let spec = &loaded.spec;
    let platform = || spec.container.platform.as_ref().map(ToString::to_string);
    let build = spec.container.build.as_ref().zip(loaded.tree.as_ref());
    let build = build.map(|(build, tree)| Build::new(build, tree, platform()));
    let image = image(spec, build.as_ref(), group);
    let volume_name = |name: &str| others.volume_name(name, group);
    let files = others.definitions.files(&spec.container, context);
    let config = config(loaded, image, networks, &volume_name, &files, context);
    let mut env = Env::new();
    for file in &loaded.env_files {
        env.extend(file.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
    }
    let own = spec.container.env.iter();
    env.extend(own.map(|(key, value)| (key.to_string(), value.as_deref().map(str::to_owned))));
    let dependencies = others.dependencies(loaded);
    let outputs = Outputs {
        gives: spec.captures().map(ToString::to_string).collect(),
        gives_first: spec.pre_start_captures().map(ToString::to_string).collect(),
        capture: spec.capture.as_ref().map(ToString::to_string),
        ..Outputs::of(&loaded.uses)
    };
    let requirements = requirements(loaded, &config);
    let fingerprint = Fingerprint::of(spec.kind, &config, &env, &dependencies);
    Service {
        name: spec.container.name.as_str().into(),
        service: spec.container.name.to_string(),
        replica: None,
        kind: spec.kind,
        config,
        env,
        dependencies,
        ping: spec.ping.clone(),
        ready_timeout: spec.ready_timeout.map(Duration::from),
        health: spec.health.clone(),
        hooks: hooks(spec, &loaded.secrets),
        outputs,
        pull: spec.container.pull,
        build,
        update: spec.update,
        files: mounted_files(spec, &files, context),
        location: loaded.source.to_string(),
        requirements,
        secret: secret_fields(&loaded.secrets),
        fingerprint,
    }
}

/// Returns the condition of a dependency. For jobs, `ready` means `succeeded`.
fn condition(written: Option<Condition>, job: bool) -> Condition {
    match written.unwrap_or(Condition::Ready) {
        Condition::Ready if job => Condition::Succeeded,
        condition => condition,
    }
}

fn hooks(spec: &model::Service, secrets: &SecretFields) -> BTreeMap<HookPoint, Vec<Hook>> {
    let on = &spec.on;
    let hooks = not_empty([
        (HookPoint::PreStart, on_host(&spec.container.pre_start)),
        (HookPoint::PostStart, spec.post_start.to_vec()),
        (HookPoint::PreStop, spec.pre_stop.to_vec()),
        (HookPoint::PostStop, on_host(&spec.post_stop)),
        (HookPoint::On(LifecycleEvent::Ready), on.ready.to_vec()),
        (HookPoint::On(LifecycleEvent::Exited), on_host(&on.exited)),
        (HookPoint::On(LifecycleEvent::Unhealthy), on.unhealthy.to_vec()),
        (HookPoint::On(LifecycleEvent::Restarted), on.restarted.to_vec()),
        (HookPoint::On(LifecycleEvent::Replaced), on.replaced.to_vec()),
        (HookPoint::On(LifecycleEvent::Stopped), on_host(&on.stopped)),
        (HookPoint::On(LifecycleEvent::Failed), on_host(&on.failed)),
        (HookPoint::On(LifecycleEvent::Succeeded), on_host(&on.succeeded)),
    ]);
    mark_secret(hooks, |point| point.field(), secrets)
}

fn group_hooks(on: &GroupOn, secrets: &SecretFields) -> BTreeMap<GroupEvent, Vec<Hook>> {
    let hooks = not_empty([
        (GroupEvent::Up, on_host(&on.up)),
        (GroupEvent::Down, on_host(&on.down)),
        (GroupEvent::Reload, on_host(&on.reload)),
    ]);
    mark_secret(hooks, |event| format!("on.{event}"), secrets)
}

/// Marks the hooks with secret fields.
fn mark_secret<K: Ord>(
    mut hooks: BTreeMap<K, Vec<Hook>>,
    field: impl Fn(&K) -> String,
    secrets: &SecretFields,
) -> BTreeMap<K, Vec<Hook>> {
    if !secrets.is_empty() {
        for (point, hooks) in &mut hooks {
            let field = field(point);
            for (index, hook) in hooks.iter_mut().enumerate() {
                hook.secret = has_secret_hook(secrets, &field, index);
            }
        }
    }
    hooks
}

fn on_host(hooks: &[HostHook]) -> Vec<Hook> {
    hooks.iter().map(|hook| hook.get().clone()).collect()
}

fn not_empty<K: Ord, const N: usize>(hooks: [(K, Vec<Hook>); N]) -> BTreeMap<K, Vec<Hook>> {
    hooks.into_iter().filter(|(_, hooks)| !hooks.is_empty()).collect()
}

/// Returns the image reference for the engine. A built image has a default repository and is tagged with a hash of its
/// sources.
fn image(spec: &model::Service, build: Option<&Build>, group: &str) -> String {
    match build {
        None => spec.container.image.as_ref().map(ImageRef::familiar).unwrap_or_default(),
        Some(build) => {
            let written = spec.container.image.as_ref().and_then(ImageRef::repository);
            let repository = written.unwrap_or_else(|| repository(group, spec.container.name.as_str()));
            format!("{repository}:{}", build.tag())
        }
    }
}

/// Returns the default repository of a built image: the container name with single separators, and none at the ends.
fn repository(group: &str, service: &str) -> String {
    let name = identity::container_name(group, service);
    let parts: Vec<&str> = name.split(['-', '_']).filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::build::Dockerfile;

    fn at(directory: &str) -> ResolveContext<'_> {
        ResolveContext { group: None, directory, home: Some("/home/ann") }
    }

    #[test]
    fn default_group_is_the_parent_directory_of_the_specs() {
        assert_eq!(group_name(None, at("/home/ann/My Shop/specs")), "my-shop");
        assert_eq!(group_name(None, at("/specs")), "specs");
        assert_eq!(group_name(None, at("/日本/specs")), "drillmaster");
        assert_eq!(group_name(None, ResolveContext { group: Some("given"), ..at("/a/b") }), "given");
    }

    fn resolved(text: &str) -> Desired {
        let content = crate::spec::Content::Bytes(text.into());
        let files = [crate::spec::SourceFile { path: "app.yaml".into(), content }];
        let (environment, context) = (BTreeMap::new(), BTreeMap::from([("known".into(), "1".into())]));
        let read = |_: &str| Err(String::new());
        let tree = |build: &model::Build| {
            let context = format!("/srv/shop/{}", build.context);
            let dockerfile = Dockerfile::File(format!("{context}/Dockerfile"));
            let digest = "00ff".into();
            Ok(crate::spec::Tree { dockerfile, context, digest, files: Default::default() })
        };
        let input = crate::spec::Input {
            dir: "specs",
            files: &files,
            dotenv: &[],
            environment: &environment,
            lenient: false,
            profiles: &Default::default(),
            context: &context,
            read: &read,
            tree: &tree,
            interpreter: &crate::spec::starlark::NoPrograms,
        };
        resolve(&crate::spec::load(&input).unwrap(), at("/srv/shop/specs"))
    }

    #[test]
    fn built_image_name_depends_on_repository_and_sources() {
        let desired = resolved(
            "name: a\nbuild: api\n---\nname: b_-c\nbuild: {context: api, target: x}\n---\nname: d\n\
             image: docker.io/library/shop\nbuild: api\n---\nname: e\nimage: reg:5000/shop/api\nbuild: api\n---\n\
             name: f\nimage: shop\n",
        );
        let image = |name: &str| desired.services[name].config.image.clone();
        let tag = desired.services["a"].build.as_ref().unwrap().tag();
        assert_eq!(image("a"), format!("shop-a:{tag}"));
        assert_eq!(image("d"), format!("shop:{tag}"));
        assert_eq!(image("e"), format!("reg:5000/shop/api:{tag}"));
        assert!(image("b_-c").starts_with("shop-b-c:") && !image("b_-c").ends_with(&tag), "{}", image("b_-c"));
        assert_eq!((image("f"), &desired.services["f"].build), ("shop:latest".into(), &None));
    }

    #[test]
    fn default_condition_depends_on_kind() {
        let desired = resolved(
            "name: a\nimage: x\ndependencies: [s, {name: t, condition: started}, j, {name: k, condition: ready}, \
             {name: l, condition: started}, {name: m, condition: succeeded}]\n---\nname: s\nimage: x\n---\nname: t\n\
             image: x\n---\nkind: Job\nname: j\nimage: x\n---\nkind: Job\nname: k\nimage: x\n---\nkind: Job\nname: l\n\
             image: x\n---\nkind: Job\nname: m\nimage: x\nretries: 2\n",
        );
        let conditions: Vec<Condition> = desired.services["a"].dependencies.iter().map(|d| d.condition).collect();
        use Condition::{Ready, Started, Succeeded};
        assert_eq!(conditions, [Ready, Started, Succeeded, Succeeded, Started, Succeeded]);
        assert_eq!(desired.services["s"].kind, Kind::Service);
        assert_eq!(desired.services["m"].kind, Kind::Job(model::Job { retries: 2, rerun: model::Rerun::Never }));
        assert!(desired.services["m"].is_job() && !desired.services["a"].is_job());
    }

    #[test]
    fn consumer_depends_on_producer() {
        let desired = resolved(
            "name: db\nimage: x\npost_start: {exec: [a], capture: user}\npost_stop: {run: [b, '${context.user}']}\n---\n\
             kind: Job\nname: migrate\nimage: x\ncapture: schema\n---\nname: api\nimage: x\ndependencies: [migrate]\n\
             env: {USER: 'u${context.user}', SCHEMA: '${context.schema}', KNOWN: '${context.known}'}\n\
             on: {ready: [{exec: [a]}, {exec: [b, '${context.other}']}]}\n",
        );
        let api = &desired.services["api"];
        let needs: Vec<_> = api.dependencies.iter().map(|need| (need.name.as_str(), need.condition)).collect();
        assert_eq!(needs, [("migrate", Condition::Succeeded), ("db", Condition::Ready)]);
        assert_eq!(api.env["KNOWN"].as_deref(), Some("1"));
        let awaited: Vec<String> = api.outputs.awaited().map(|(field, _)| field).collect();
        assert_eq!(awaited, ["env.SCHEMA", "env.USER"]);
        let unknown = |service: &str, field, index| desired.services[service].outputs.unknown_of_hook(field, index);
        assert_eq!(unknown("api", "on.ready", 1), Some("other"));
        assert_eq!((unknown("api", "on.ready", 0), unknown("api", "on.rea", 1)), (None, None));
        let db = &desired.services["db"];
        assert_eq!(db.outputs.awaited().count(), 0, "`post_stop` does not affect the container");
        assert_eq!(unknown("db", "post_stop", 0), Some("user"), "a single hook without a list");
        assert!(db.dependencies.is_empty());
        assert_eq!(desired.producer_of("schema").map(|producer| producer.name.as_str()), Some("migrate"));
        assert!(desired.uses_outputs());
    }

    #[test]
    fn replicas_have_the_same_definition() {
        let desired = resolved(
            "name: a\nimage: x\nreplicas: 11\n---\nname: b\nimage: x\nreplicas: 0\n---\nname: c\nimage: x\n\
             dependencies: [a, b]\nupdate: {order: start-first, min_ready: 2s, on_failure: keep}\n",
        );
        let names: Vec<&str> = desired.names().into_iter().collect();
        assert_eq!((names, desired.services.len()), (vec!["a", "b", "c"], 12));
        let last = &desired.services["a-11"];
        assert_eq!((last.service.as_str(), last.replica, last.hostname()), ("a", Some(11), "a-11"));
        assert_eq!(last.network_names("shop", &Default::default()), ["a", "a.shop"]);
        let c = &desired.services["c"];
        assert_eq!((c.replica, c.hostname(), c.update.on_failure), (None, "", model::OnFailure::Keep));
        // The number of replicas does not change their containers.
        let one = resolved("name: a\nimage: x\n");
        assert_eq!(last.fingerprint, one.services["a"].fingerprint);
        let needing =
            resolved("name: a\nimage: x\n---\nname: b\nimage: x\n---\nname: c\nimage: x\ndependencies: [a, b]\n");
        assert_eq!(c.fingerprint, needing.services["c"].fingerprint);
        assert_eq!(desired.needs()["c"], ["a".to_owned(), "b".to_owned()].into());
        let eleven = BTreeSet::from_iter(desired.services.keys().filter(|name| *name != "a-7").cloned());
        assert_eq!(desired.ready(&eleven), ["c"].into());
    }

    #[test]
    fn service_of_a_container_is_found_by_labels() {
        let label = |service: &str, replica| identity::Identity {
            group: "shop".into(),
            service: service.into(),
            replica,
            ..identity::Identity::default()
        };
        let numbered = resolved("name: a\nimage: x\nreplicas: 2\n---\nname: b\nimage: x\n");
        let name = |desired: &Desired, service: &str, replica| {
            desired.instance_of(&label(service, replica)).map(std::borrow::Cow::into_owned).unwrap_or_default()
        };
        assert_eq!(name(&numbered, "a", Some(2)), "a-2");
        assert_eq!(name(&numbered, "a", None), "a-1", "without a number, replica 1");
        assert_eq!(name(&numbered, "a", Some(3)), "a-3", "surplus replica");
        assert_eq!((name(&numbered, "b", Some(1)), name(&numbered, "b", Some(2))), ("b".into(), "b-2".into()));
        assert_eq!((name(&numbered, "gone", None), name(&numbered, "gone", Some(4))), ("gone".into(), "gone-4".into()));
        let gone = numbered.without_services(Scope::All, Mode::StopOnly);
        assert_eq!(name(&gone, "a", None), "a-1", "as before the removal");
        let elsewhere = identity::Identity { group: "other".into(), ..label("a", None) };
        assert_eq!(numbered.instance_of(&elsewhere), None);
    }

    #[test]
    fn hooks_are_keyed_by_hook_point() {
        let desired = resolved(
            "name: a\nimage: x\npre_start: {run: [a]}\npost_start: [{exec: [b]}, {run: [c]}]\npre_stop: []\n\
             post_stop: {run: [d]}\non: {exited: {run: [e]}, replaced: {http: 'http://f'}, failed: }\n---\nkind: Job\n\
             name: j\nimage: x\non: {succeeded: {run: [g]}, failed: {run: [h]}}\n---\nkind: Group\n\
             on: {up: {run: [i], timeout: 5s}, down: }\n",
        );
        let actions = |name: &str| -> Vec<String> {
            let hooks = desired.services[name].hooks.iter();
            hooks.flat_map(|(point, hooks)| hooks.iter().map(move |hook| format!("{point}: {}", hook.action))).collect()
        };
        assert_eq!(
            actions("a"),
            [
                "pre_start: run a",
                "post_start: exec b",
                "post_start: run c",
                "post_stop: run d",
                "exited: run e",
                "replaced: http GET http://f"
            ]
        );
        assert_eq!(actions("j"), ["failed: run h", "succeeded: run g"]);
        assert_eq!(desired.services["a"].hooks_at(HookPoint::PostStart).len(), 2);
        assert_eq!(desired.services["a"].hooks_at(HookPoint::PreStop), []);
        assert_eq!(desired.on.keys().collect::<Vec<_>>(), [&GroupEvent::Up]);
        let Some([Hook { timeout, .. }]) = desired.on.get(&GroupEvent::Up).map(Vec::as_slice) else { panic!() };
        assert_eq!(*timeout, Duration::from_secs(5));
        // Hooks are not part of the container.
        let plain = resolved("name: a\nimage: x\n").services["a"].fingerprint.clone();
        assert_eq!(desired.services["a"].fingerprint, plain);
    }
}
