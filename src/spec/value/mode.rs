//! Permissions of files.

use super::*;

/// Permissions of a file in octal digits with a leading zero, as chmod(1) takes them: `0440`. Canonical form: `0440`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileMode(u32);

impl FileMode {
    /// Creates a mode from the lowest twelve bits of a number.
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0o7777)
    }

    /// Returns the permission bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl FromStr for FileMode {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix("0o").or_else(|| text.strip_prefix('0'));
        let bits = digits.filter(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()));
        match bits.and_then(|digits| u32::from_str_radix(digits, 8).ok()) {
            Some(bits) if bits <= 0o7777 => Ok(Self(bits)),
            // A decimal number would be read as other permissions than were meant.
            _ => Err(Invalid::new(format!("invalid file mode {}", quoted(text)))
                .hint("write octal digits with a leading zero, for example `\"0440\"`")),
        }
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0{:03o}", self.0)
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

read_value!(FileMode, shaped, "a file mode such as `\"0440\"`", {
    "description": "Permissions of a file: octal digits with a leading zero.",
    "anyOf": [{"type": "string", "pattern": "^0o?[0-7]{1,4}$"}, {"type": "integer", "minimum": 0, "maximum": 4095}],
    "examples": ["0440"]
});

#[cfg(test)]
mod tests {
    use super::super::tests::canonical;
    use super::*;

    #[test]
    fn modes_are_octal() {
        canonical::<FileMode>(&[
            ("0440", "0440"),
            ("0o755", "0755"),
            ("01777", "01777"),
            ("00", "0000"),
            ("420", ""),
            ("0", ""),
            ("0888", ""),
            ("017777", ""),
            ("rwx", ""),
        ]);
    }
}
