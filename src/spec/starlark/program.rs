//! Programs as data: what their evaluation needs, and what it returns.
//!
//! Both are serializable: an evaluation can run forever or exhaust memory, so `control::programs` runs it in a process of
//! its own. Places refer to files by path and become [`Location`]s with [`Programs::location`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::function::Function;
use crate::spec::FileAccess;
use crate::spec::locate::{Diagnostic, Location, SourceText};
use crate::spec::node::Node;

/// The programs of a spec directory, with the variables that they can read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Programs {
    /// Texts by path relative to the spec directory.
    #[serde(with = "source_texts")]
    pub texts: BTreeMap<String, Arc<SourceText>>,
    /// Paths of all spec files, also of those that cannot be read.
    pub files: BTreeSet<String>,
    /// Environment variables, and those of `.env` that the environment does not set.
    pub variables: BTreeMap<String, String>,
}

impl Programs {
    /// Returns the source location of a place; `None` if it is in no program.
    pub fn location(&self, place: &Place) -> Option<Location> {
        Some(Location::new(self.texts.get(&place.path)?, place.span.clone()))
    }

    /// Returns the diagnostic of an error.
    pub fn diagnostic(&self, error: ProgramError) -> Diagnostic {
        let related = error.related.iter();
        Diagnostic {
            location: error.place.as_ref().and_then(|place| self.location(place)),
            related: related.filter_map(|(place, label)| Some((self.location(place)?, label.clone()))).collect(),
            hint: error.hint,
            ..Diagnostic::new(error.message)
        }
    }
}

/// Serialization of texts by path: only the texts.
mod source_texts {
    use super::*;

    pub fn serialize<S: serde::Serializer>(
        texts: &BTreeMap<String, Arc<SourceText>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(texts.iter().map(|(path, text)| (path, text.text())))
    }

    pub fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Arc<SourceText>>, D::Error> {
        let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(|(path, text)| (path.clone(), SourceText::new(path, text))).collect())
    }
}

/// Byte range in a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Path relative to the spec directory.
    pub path: String,
    pub span: Range<usize>,
}

impl From<Location> for Place {
    /// In an evaluation, the path of a source text is the path relative to the spec directory.
    fn from(location: Location) -> Self {
        Self { path: location.file.path().to_owned(), span: location.span }
    }
}

/// Error of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramError {
    pub message: String,
    pub hint: Option<String>,
    pub place: Option<Place>,
    /// Call stack, innermost call first.
    pub related: Vec<(Place, String)>,
    /// The program is wrong: another call would fail too.
    #[serde(default)]
    pub is_defect: bool,
}

impl From<Diagnostic> for ProgramError {
    fn from(diagnostic: Diagnostic) -> Self {
        let Diagnostic { message, hint, location, related, .. } = diagnostic;
        let related = related.into_iter().map(|(location, label)| (location.into(), label)).collect();
        Self { message, hint, place: location.map(Place::from), related, is_defect: false }
    }
}

/// A question of programs about files in the spec directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FileQuery {
    /// The content of a file.
    Read(String),
    /// The names in a directory.
    List(String),
}

/// Answer to a [`FileQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileAnswer {
    Text(String),
    /// Names, with true for directories.
    Names(Vec<(String, bool)>),
}

impl FileQuery {
    /// Answers the query.
    ///
    /// # Errors
    ///
    /// A message for the user, if the file or directory cannot be read.
    pub fn answer(&self, files: &dyn FileAccess) -> Result<FileAnswer, String> {
        match self {
            FileQuery::Read(path) => {
                let text = String::from_utf8(files.read(path)?).map_err(|_| "not valid UTF-8".to_owned())?;
                Ok(FileAnswer::Text(text))
            }
            FileQuery::List(path) => files.list(path).map(FileAnswer::Names),
        }
    }
}

/// All inputs of an evaluation, so that it can be repeated.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    pub programs: Programs,
    /// Answers that the programs were given.
    pub answers: BTreeMap<FileQuery, Result<FileAnswer, String>>,
}

/// Result of an evaluation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Evaluated {
    /// Documents in the order in which they were defined.
    pub documents: Vec<Document>,
    /// Offset of each program, by path, in the joined text that the spans of documents refer to.
    pub offsets: Vec<(usize, String)>,
    /// Functions used in the documents, by index.
    pub functions: Vec<FunctionName>,
    /// Hash of all inputs.
    pub digest: String,
    pub errors: Vec<ProgramError>,
    /// Files and directories that the programs read, besides themselves.
    pub reads: BTreeSet<String>,
    /// Variables that the programs read.
    pub variables: BTreeSet<String>,
    /// Printed lines, each prefixed with its file.
    pub printed: Vec<String>,
}

/// A document defined by a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub root: Node,
    /// File that defines it, relative to the spec directory.
    pub path: String,
    /// Call stack of the definition, innermost call first.
    pub frames: Vec<(Place, String)>,
}

/// Name of a function used in a document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FunctionName {
    /// Name in the program.
    pub name: String,
    /// Location of the call that uses it: `app.star:12`.
    pub location: String,
    /// Keys of outputs that it may set, as far as its text shows them.
    pub outputs: BTreeSet<String>,
}

impl Evaluated {
    /// Returns the joined text that the spans of the documents refer to.
    pub(in crate::spec) fn joined_text(&self, programs: &Programs) -> Arc<SourceText> {
        let part = |(offset, path): &(usize, String)| Some((*offset, programs.texts.get(path)?.clone()));
        SourceText::joined(self.offsets.iter().filter_map(part).collect())
    }

    /// Returns the functions, by index.
    pub(in crate::spec) fn functions(&self, snapshot: &Arc<Snapshot>) -> Vec<Function> {
        let functions = self.functions.iter().enumerate();
        functions
            .map(|(index, name)| Function::new(index, name.clone(), self.digest.clone(), snapshot.clone()))
            .collect()
    }
}

/// Evaluates programs.
pub trait Interpreter {
    /// Evaluates programs. Also returns all inputs. Errors are in the result.
    fn evaluate(&self, programs: Programs) -> (Snapshot, Evaluated);
}

/// Evaluates nothing, for specs without programs.
#[derive(Debug, Clone, Copy)]
pub struct NoPrograms;

impl Interpreter for NoPrograms {
    fn evaluate(&self, programs: Programs) -> (Snapshot, Evaluated) {
        let error = ProgramError::from(Diagnostic::new("programs are not supported here"));
        let evaluated = Evaluated { errors: vec![error], ..Evaluated::default() };
        (Snapshot { programs, ..Snapshot::default() }, evaluated)
    }
}
