//! Source spans of call arguments, so that an error points at the argument and not at the whole call.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;

use starlark::codemap::Span;
use starlark::syntax::ast::{Argument, AstExpr, AstLiteral, AstStmt, Expr, Stmt};

/// Source span of an expression and its parts.
#[derive(Debug)]
pub(super) struct ExprSpan {
    /// Byte range in the joined source text.
    pub span: Range<usize>,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    /// No parts.
    None,
    /// Elements of a list or tuple.
    Items(Vec<Rc<ExprSpan>>),
    /// Entries of a dictionary or named arguments of a call.
    Entries(Vec<Entry>),
}

/// An entry of a dictionary or a named argument.
#[derive(Debug)]
pub(super) struct Entry {
    /// The key, if it is a literal.
    key: Option<String>,
    pub key_span: Range<usize>,
    pub value: Rc<ExprSpan>,
}

impl ExprSpan {
    /// Returns an element. `None` if the value does not have the same number of elements as the source.
    pub fn item(&self, index: usize, count: usize) -> Option<&ExprSpan> {
        match &self.parts {
            Parts::Items(items) if items.len() == count => items.get(index).map(Rc::as_ref),
            _ => None,
        }
    }

    /// Returns the entry with a key, which is probably at the given index. Large dictionaries are not searched.
    pub fn entry(&self, key: &str, index: usize) -> Option<&Entry> {
        const MAX_SEARCHED: usize = 100;
        let Parts::Entries(entries) = &self.parts else { return None };
        let matches = |entry: &&Entry| entry.key.as_deref() == Some(key);
        let searched = if entries.len() <= MAX_SEARCHED { entries.as_slice() } else { &[] };
        entries.get(index).filter(matches).or_else(|| searched.iter().find(matches))
    }
}

/// Calls in a file by their span.
pub(super) type Calls = HashMap<(u32, u32), Rc<ExprSpan>>;

/// Finds the calls with named arguments. `base` is the offset of the file in the joined source text.
pub(super) fn calls(program: &AstStmt, base: usize) -> Calls {
    let mut index = Index { base, calls: Calls::new() };
    index.statement(program);
    index.calls
}

/// Returns the parameter names of each function defined in a file.
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

struct Index {
    base: usize,
    calls: Calls,
}

impl Index {
    fn span(&self, span: Span) -> Range<usize> {
        self.base + span.begin().get() as usize..self.base + span.end().get() as usize
    }

    fn statement(&mut self, statement: &AstStmt) {
        use starlark_syntax::syntax::uniplate::Visit;
        statement.node.visit_children(|child| match child {
            Visit::Stmt(statement) => self.statement(statement),
            Visit::Expr(expression) => drop(self.expression(expression)),
        });
    }

    fn expression(&mut self, expression: &AstExpr) -> Rc<ExprSpan> {
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
                Parts::None
            }
        };
        let named = matches!(&parts, Parts::Entries(entries) if !entries.is_empty());
        let result = Rc::new(ExprSpan { span: self.span(expression.span), parts });
        if named && matches!(expression.node, Expr::Call(..)) {
            let key = (expression.span.begin().get(), expression.span.end().get());
            self.calls.insert(key, result.clone());
        }
        result
    }
}
