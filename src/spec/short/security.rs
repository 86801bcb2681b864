//! Security options.

use super::*;
use crate::spec::model::SecurityOpt;

read_shaped! { SecurityOpt }
write_displayed! { SecurityOpt }

const NO_NEW_PRIVILEGES: &str = "no-new-privileges";
const KEYS: [&str; 9] = [
    "apparmor",
    "label",
    NO_NEW_PRIVILEGES,
    "seccomp",
    "systempaths",
    "writable-cgroups",
    // Podman's.
    "mask",
    "proc-opts",
    "unmask",
];

impl FromStr for SecurityOpt {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = || Invalid::new(format!("invalid security option {}", quoted(text)));
        // `key:value` is the older form.
        let (key, value) = match text.split_once(['=', ':']) {
            Some((key, value)) => (key, value.trim()),
            None if text == NO_NEW_PRIVILEGES => (text, "true"),
            None => (text, ""),
        };
        if !KEYS.contains(&key) {
            let hint = closest(key, KEYS).map(|key| format!("did you mean `{key}`?"));
            let hint = hint.unwrap_or_else(|| format!("options are `{}`", KEYS.join("=…`, `")));
            return Err(invalid().hint(hint));
        }
        match (key, value) {
            (_, "") => Err(invalid().hint(format!("write `{key}=…`"))),
            (NO_NEW_PRIVILEGES, "true") => Ok(Self::Text(NO_NEW_PRIVILEGES.into())),
            ("systempaths", value) if value != "unconfined" => Err(invalid().hint("write `systempaths=unconfined`")),
            ("seccomp", "unconfined" | "builtin") => Ok(Self::Text(format!("{key}={value}"))),
            ("seccomp", profile) if profile.starts_with('{') => {
                match serde_json::from_str::<serde_json::Value>(profile) {
                    Ok(profile) => Ok(Self::Seccomp(profile.to_string())),
                    Err(error) => Err(Invalid::new(format!("the seccomp profile is not valid JSON: {error}"))),
                }
            }
            ("seccomp", path) => Ok(Self::SeccompFile(path.into())),
            (key, value) => Ok(Self::Text(format!("{key}={value}"))),
        }
    }
}

impl fmt::Display for SecurityOpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Seccomp(profile) => write!(f, "seccomp={profile}"),
            Self::SeccompFile(path) => write!(f, "seccomp={path}"),
        }
    }
}

impl<'de> Shape<'de> for SecurityOpt {
    const EXPECTED: &'static str = "a security option such as `no-new-privileges`";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl JsonSchema for SecurityOpt {
    fn schema_name() -> Cow<'static, str> {
        "SecurityOpt".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A security option: `no-new-privileges`, `seccomp=FILE` (a profile, relative to the spec directory), `seccomp=unconfined`, `apparmor=PROFILE`, `label=…`, `systempaths=unconfined`.",
            "examples": ["no-new-privileges", "seccomp=./profile.json", "apparmor=unconfined"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn options_have_one_form() {
        for text in ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"] {
            assert_eq!(canonical::<SecurityOpt>(&format!("{text:?}")), "no-new-privileges");
        }
        assert_eq!(canonical::<SecurityOpt>("\"no-new-privileges:false\""), "no-new-privileges=false");
        assert_eq!(canonical::<SecurityOpt>("\"label:type:svirt\""), "label=type:svirt");
        assert_eq!(canonical::<SecurityOpt>("\"seccomp:unconfined\""), "seccomp=unconfined");
        assert_eq!("seccomp=./a.json".parse(), Ok(SecurityOpt::SeccompFile("./a.json".into())));
        let inline = SecurityOpt::Seccomp("{\"defaultAction\":\"SCMP_ACT_ALLOW\"}".into());
        assert_eq!("seccomp={\"defaultAction\": \"SCMP_ACT_ALLOW\"}".parse(), Ok(inline));
        for text in ["", "seccomp", "seccomp=", "seccomp={", "systempaths=x", "selinux=x", "disable"] {
            assert!(text.parse::<SecurityOpt>().is_err(), "{text}");
        }
    }
}
