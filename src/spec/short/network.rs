//! The networks of a container.

use super::*;

read_shaped! { ContainerNetworks }

impl<'de> Shape<'de> for ContainerNetworks {
    const EXPECTED: &'static str = "a list of networks";

    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self(BTreeMap::from([(text.parse()?, None)])))
    }

    fn from_list<A: SeqAccess<'de>>(list: A) -> Result<Self, A::Error> {
        let names = Vec::<Name>::deserialize(SeqAccessDeserializer::new(list))?;
        Ok(Self(names.into_iter().map(|name| (name, None)).collect()))
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        Entries::deserialize(MapAccessDeserializer::new(map)).map(Self)
    }
}

impl JsonSchema for ContainerNetworks {
    fn schema_name() -> Cow<'static, str> {
        "ContainerNetworks".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Networks of the group: a list of names, or a map of names to settings.",
            "anyOf": [
                Name::json_schema(generator),
                Vec::<Name>::json_schema(generator),
                Entries::<Endpoint>::json_schema(generator)
            ],
            "examples": [["default", "back"], {"back": {"aliases": ["db"], "ipv4_address": "10.1.0.5"}}]
        })
    }
}
