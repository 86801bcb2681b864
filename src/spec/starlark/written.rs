//! Where the arguments of calls stand in a file: a value that is written out in a call is marked there, and not the
//! whole call.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

use starlark::codemap::Span;
use starlark::syntax::ast::{Argument, AstExpr, AstLiteral, AstStmt, Expr, Stmt};

use super::guard::{self, Prepared};

/// An expression as it is written.
#[derive(Debug)]
pub(super) struct Written {
    /// Bytes of the file.
    pub span: Range<usize>,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    /// Nothing in it is told apart.
    Whole,
    /// Elements of a list or tuple.
    Items(Vec<Rc<Written>>),
    /// Entries of a dictionary, or named arguments of a call.
    Entries(Vec<Entry>),
}

/// An entry, or a named argument.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key, where it stands there.
    key: Option<String>,
    /// Where.
    pub key_span: Range<usize>,
    /// The value.
    pub value: Rc<Written>,
}

impl Written {
    /// An element, of as many as there should be.
    pub fn item(&self, index: usize, count: usize) -> Option<&Written> {
        match &self.parts {
            Parts::Items(items) if items.len() == count => items.get(index).map(Rc::as_ref),
            _ => None,
        }
    }

    /// The entry under this key, which probably is the one of this index.
    pub fn entry(&self, key: &str, index: usize) -> Option<&Entry> {
        const FEW: usize = 100;
        let Parts::Entries(entries) = &self.parts else { return None };
        let is = |entry: &&Entry| entry.key.as_deref() == Some(key);
        let few = if entries.len() <= FEW { entries.as_slice() } else { &[] };
        entries.get(index).filter(is).or_else(|| few.iter().find(is))
    }
}

/// The calls of a file, by their place in the rewritten text.
pub(super) type Calls = HashMap<(u32, u32), Rc<Written>>;

/// Finds the calls that name arguments. Places are given from `base` on.
pub(super) fn calls(program: &AstStmt, prepared: &Prepared, base: usize) -> Calls {
    let mut index = Index { prepared, base, calls: Calls::new() };
    index.statement(program);
    index.calls
}

/// Whether a call was put in by the guard, around one that was written.
fn is_put_in(function: &AstExpr) -> bool {
    matches!(&function.node, Expr::Identifier(name) if name.node.ident == guard::KEPT)
}

/// The names of parameters of each function that is defined in a file.
pub(super) fn parameters(program: &AstStmt) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    collect(program, &mut found);
    found
}

fn collect(statement: &AstStmt, found: &mut BTreeMap<String, Vec<String>>) {
    if let Stmt::Def(def) = &statement.node {
        let names = def.params.iter().filter_map(|parameter| Some(parameter.node.ident()?.node.ident.clone()));
        found.insert(def.name.node.ident.clone(), names.collect());
    }
    statement.node.visit_stmt(|inner| collect(inner, found));
}

struct Index<'p> {
    prepared: &'p Prepared,
    base: usize,
    calls: Calls,
}

impl Index<'_> {
    fn span(&self, span: Span) -> Range<usize> {
        let at = |position: starlark::codemap::Pos| position.get() as usize;
        let written = self.prepared.written(at(span.begin())..at(span.end()));
        self.base + written.start..self.base + written.end
    }

    fn statement(&mut self, statement: &AstStmt) {
        use starlark_syntax::syntax::uniplate::Visit;
        statement.node.visit_children(|child| match child {
            Visit::Stmt(statement) => self.statement(statement),
            Visit::Expr(expression) => drop(self.expression(expression)),
        });
    }

    fn expression(&mut self, expression: &AstExpr) -> Rc<Written> {
        let parts = match &expression.node {
            Expr::List(items) | Expr::Tuple(items) => {
                Parts::Items(items.iter().map(|item| self.expression(item)).collect())
            }
            Expr::Dict(entries) => {
                let entry = |(key, value): &(AstExpr, AstExpr)| Entry {
                    key: match &key.node {
                        Expr::Literal(AstLiteral::String(text)) => Some(text.node.clone()),
                        _ => None,
                    },
                    key_span: self.expression(key).span.clone(),
                    value: self.expression(value),
                };
                Parts::Entries(entries.iter().map(entry).collect())
            }
            Expr::Call(function, arguments) if is_put_in(function) => match arguments.args.as_slice() {
                [argument] => return self.expression(argument.node.expr()),
                _ => Parts::Whole,
            },
            Expr::Call(function, arguments) => {
                drop(self.expression(function));
                let mut named = Vec::new();
                for argument in &arguments.args {
                    match &argument.node {
                        Argument::Named(name, value) => named.push(Entry {
                            key: Some(name.node.clone()),
                            key_span: self.span(name.span),
                            value: self.expression(value),
                        }),
                        Argument::Positional(value) | Argument::Args(value) | Argument::KwArgs(value) => {
                            drop(self.expression(value));
                        }
                    }
                }
                Parts::Entries(named)
            }
            other => {
                let mut visit = |child: &AstExpr| drop(self.expression(child));
                other.visit_expr(&mut visit);
                Parts::Whole
            }
        };
        let named = matches!(&parts, Parts::Entries(entries) if !entries.is_empty());
        let written = Rc::new(Written { span: self.span(expression.span), parts });
        if named && matches!(expression.node, Expr::Call(..)) {
            let key = (expression.span.begin().get(), expression.span.end().get());
            self.calls.insert(key, written.clone());
        }
        written
    }
}
