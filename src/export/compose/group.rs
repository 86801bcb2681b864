//! What services share: networks, volumes, configs and secrets.

use serde_yaml::{Mapping, Value as Yaml};

use super::fields::HOOKS;
use super::output::{Item, Line, entry, is_empty, yaml};
use super::service::{Project, Used};
use super::written::{PLACE, Unsaid, Written};
use crate::identity;
use crate::spec::Diagnostic;
use crate::spec::model::{DEFAULT_NETWORK, FileField, FileSource, Group, GroupNetwork, GroupVolume, Ipam, IpamRange};

/// Writes the sections of a group.
pub(super) struct Sections<'a> {
    pub project: &'a Project<'a>,
    pub used: &'a Used,
    /// Name of its network on the engine.
    pub network: &'a str,
    pub written: Option<Written<'a, Group>>,
    pub notes: Vec<Diagnostic>,
}

impl<'a> Sections<'a> {
    /// Writes what the services use.
    pub fn write(mut self) -> (Vec<Line>, Vec<Diagnostic>) {
        let mut lines = Vec::new();
        lines.extend(self.hooks());
        for (section, entries) in [
            ("networks", self.networks()),
            ("volumes", self.volumes()),
            ("configs", self.files(FileField::Configs)),
            ("secrets", self.files(FileField::Secrets)),
        ] {
            if !entries.is_empty() {
                lines.push(Line::Entry(section.to_owned(), Item::Map(entries)));
            }
        }
        (lines, self.notes)
    }

    fn group(&self) -> Option<&'a Group> {
        self.written.as_ref().map(|written| &written.loaded.spec)
    }

    /// The keys of a section that services name.
    fn used(&self, section: &str) -> Vec<&'a str> {
        self.used.iter().filter(|(used, _)| *used == section).map(|(_, name)| name.as_str()).collect()
    }

    fn hooks(&mut self) -> Vec<Line> {
        match self.group() {
            Some(group) if group.on.hooks().next().is_some() => self.refused("on", Unsaid(HOOKS)),
            _ => Vec::new(),
        }
    }

    fn refused(&mut self, path: &str, unsaid: Unsaid) -> Vec<Line> {
        let Some(written) = &self.written else { return Vec::new() };
        let (note, comment) = written.unsaid(path, unsaid);
        self.notes.push(note);
        comment.into_iter().map(Line::Comment).collect()
    }

    /// Returns an entry of a section, or why it cannot be written.
    fn section_entry(&mut self, section: &str, name: &str, fields: Result<Yaml, Unsaid>) -> Vec<Line> {
        let path = format!("{section}.{name}");
        let left = self.written.as_ref().and_then(|written| written.left(&path));
        match (fields, left) {
            (Ok(fields), None) => vec![entry(name, fields)],
            (Ok(_), Some(_)) => self.left_to_others(&path, name, Unsaid(PLACE)),
            (Err(unsaid), _) => self.left_to_others(&path, name, unsaid),
        }
    }

    /// Services name it: it has to come from elsewhere.
    fn left_to_others(&mut self, path: &str, name: &str, unsaid: Unsaid) -> Vec<Line> {
        let mut lines = self.refused(path, unsaid);
        lines.push(entry(name, Mapping::from_iter([(Yaml::from("external"), Yaml::from(true))])));
        lines
    }

    fn value(&self, path: &str, value: Yaml) -> Result<Yaml, Unsaid> {
        self.written.as_ref().map_or(Ok(value.clone()), |written| written.value(path, value))
    }

    /// Returns a map of the fields that are set.
    fn fields<const N: usize>(&self, path: &str, fields: [(&str, Yaml); N]) -> Result<Mapping, Unsaid> {
        let mut map = Mapping::new();
        for (key, value) in fields {
            let value = self.value(&format!("{path}.{key}"), value)?;
            if !is_empty(&value) {
                map.insert(key.into(), value);
            }
        }
        Ok(map)
    }

    fn networks(&mut self) -> Vec<Line> {
        let entries = self.used("networks").into_iter().flat_map(|name| {
            let spec = self.group().and_then(|group| group.networks.get(name)).cloned().flatten().unwrap_or_default();
            let fields = self.network(name, &spec);
            self.section_entry("networks", name, fields)
        });
        entries.collect()
    }

    fn network(&self, key: &str, network: &GroupNetwork) -> Result<Yaml, Unsaid> {
        let GroupNetwork {
            name,
            external,
            driver,
            driver_opts,
            internal,
            attachable,
            enable_ipv4,
            enable_ipv6,
            labels,
            ipam,
        } = network;
        let path = format!("networks.{key}");
        let own = match key {
            DEFAULT_NETWORK => Some(self.network.to_owned()),
            _ => name.as_ref().map(ToString::to_string),
        };
        let own = own.filter(|name| *name != format!("{}_{key}", self.project.group) || *external);
        let ipam = self.ipam(&path, key, ipam)?;
        // Of an IPv6 range, drillmaster concludes it.
        let has_ipv6 = network
            .ipam
            .config
            .iter()
            .any(|range| range.subnet.as_ref().is_some_and(|subnet| subnet.as_str().contains(':')));
        let enable_ipv6 = enable_ipv6.or(has_ipv6.then_some(true));
        let mut fields = self.fields(
            &path,
            [
                ("name", yaml(own)),
                ("external", yaml(external)),
                ("driver", yaml(driver)),
                ("driver_opts", yaml(driver_opts)),
                ("internal", yaml(internal)),
                ("attachable", yaml(attachable)),
                ("labels", yaml(labels)),
            ],
        )?;
        // False is a setting too.
        for (key, value) in [("enable_ipv4", *enable_ipv4), ("enable_ipv6", enable_ipv6)] {
            if let Some(value) = value {
                fields.insert(key.into(), self.value(&format!("{path}.{key}"), yaml(value))?);
            }
        }
        if !ipam.is_empty() {
            fields.insert("ipam".into(), ipam.into());
        }
        Ok(fields.into())
    }

    fn ipam(&self, path: &str, key: &str, ipam: &Ipam) -> Result<Mapping, Unsaid> {
        let Ipam { driver, options, config } = ipam;
        let path = format!("{path}.ipam");
        let mut ranges = Vec::new();
        for (at, IpamRange { subnet, gateway, ip_range, aux_addresses }) in config.iter().enumerate() {
            let range = self.fields(
                &format!("{path}.config.{at}"),
                [
                    ("subnet", yaml(subnet)),
                    ("gateway", yaml(gateway)),
                    ("ip_range", yaml(ip_range)),
                    ("aux_addresses", yaml(aux_addresses)),
                ],
            );
            ranges.push(Yaml::from(range?));
        }
        if let Some(subnet) = self.group().and_then(|group| group.subnet.as_ref())
            && key == DEFAULT_NETWORK
            && ranges.is_empty()
        {
            let subnet = self.value("subnet", yaml(subnet))?;
            ranges.push(Mapping::from_iter([(Yaml::from("subnet"), subnet)]).into());
        }
        let mut fields = self.fields(&path, [("driver", yaml(driver)), ("options", yaml(options))])?;
        if !ranges.is_empty() {
            fields.insert("config".into(), ranges.into());
        }
        Ok(fields)
    }

    fn volumes(&mut self) -> Vec<Line> {
        let entries = self.used("volumes").into_iter().flat_map(|name| {
            let spec = self.group().and_then(|group| group.volumes.get(name)).cloned().flatten().unwrap_or_default();
            let fields = self.volume(name, &spec);
            self.section_entry("volumes", name, fields)
        });
        entries.collect()
    }

    fn volume(&self, key: &str, volume: &GroupVolume) -> Result<Yaml, Unsaid> {
        let GroupVolume { name, external, driver, driver_opts, labels } = volume;
        let own = match name {
            Some(name) => Some(name.to_string()),
            None if *external => None,
            None => Some(identity::volume_name(self.project.group, key)),
        };
        let fields = self.fields(
            &format!("volumes.{key}"),
            [
                ("name", yaml(own)),
                ("external", yaml(external)),
                ("driver", yaml(driver)),
                ("driver_opts", yaml(driver_opts)),
                ("labels", yaml(labels)),
            ],
        );
        fields.map(Yaml::from)
    }

    fn files(&mut self, field: FileField) -> Vec<Line> {
        let Some(group) = self.group() else { return Vec::new() };
        let used = self.used(field.name());
        let defined = field.defined(group).iter().filter(|(name, _)| used.contains(&name.as_str()));
        let entries = defined.flat_map(|(name, source)| {
            let fields = self.file(&format!("{}.{name}", field.name()), source);
            self.section_entry(field.name(), name.as_str(), fields)
        });
        entries.collect()
    }

    fn file(&self, path: &str, source: &FileSource) -> Result<Yaml, Unsaid> {
        let (key, value) = match source {
            FileSource::Environment(variable) => ("environment", variable.to_string()),
            FileSource::Content(text) => ("content", text.to_string()),
            FileSource::File(file) => ("file", file.clone()),
        };
        let path = format!("{path}.{key}");
        let template = self.written.as_ref().map_or(Ok(None), |written| written.template(&path))?;
        let directories = self.project.directories;
        let text = match (key, template) {
            ("file", Some(template)) => directories.rebased_template(&template, &value)?,
            ("file", None) => directories.rebased(&value),
            (_, Some(template)) => template,
            (_, None) => value.replace('$', "$$"),
        };
        Ok(Mapping::from_iter([(Yaml::from(key), Yaml::from(text))]).into())
    }
}
