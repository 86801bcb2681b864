//! Outputs that functions may set: the literal keys in their text and in the functions that they mention.
//!
//! Overestimates: functions of one name are not told apart, and a key counts even if the statement is never reached. Keys
//! that are computed are unknown.

use std::collections::{BTreeMap, BTreeSet};

use starlark::syntax::ast::{AssignTarget, AstExpr, AstLiteral, AstStmt, Expr, Stmt};
use starlark_syntax::syntax::uniplate::Visit;

/// What a function mentions.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    /// Keys that it sets: `ctx.context["key"] = value`.
    keys: BTreeSet<String>,
    /// Names that it uses, also those of variables.
    names: BTreeSet<String>,
    /// Variables that hold `ctx.context`.
    aliases: BTreeSet<String>,
}

/// Functions by name.
pub(super) type Definitions = BTreeMap<String, Mentions>;

/// Adds the functions that a file defines.
pub(super) fn collect(program: &AstStmt, definitions: &mut Definitions) {
    // What the file itself mentions is not called later.
    visit(program, &mut Mentions::default(), definitions);
}

/// Returns the keys that a function may set.
pub(super) fn keys_of(function: &str, definitions: &Definitions) -> BTreeSet<String> {
    let mut seen = BTreeSet::from([function]);
    let mut open = vec![function];
    let mut keys = BTreeSet::new();
    while let Some(mentions) = open.pop().map(|name| definitions.get(name)) {
        let Some(mentions) = mentions else { continue };
        keys.extend(mentions.keys.iter().cloned());
        open.extend(mentions.names.iter().map(String::as_str).filter(|name| seen.insert(*name)));
    }
    keys
}

fn visit(statement: &AstStmt, mentions: &mut Mentions, definitions: &mut Definitions) {
    match &statement.node {
        Stmt::Def(def) => {
            let mut inner = Mentions { aliases: mentions.aliases.clone(), ..Mentions::default() };
            visit(&def.body, &mut inner, definitions);
            let defined = definitions.entry(def.name.node.ident.clone()).or_default();
            defined.keys.extend(inner.keys);
            defined.names.extend(inner.names);
            return;
        }
        Stmt::Load(load) => {
            for argument in &load.args {
                let defined = definitions.entry(argument.local.node.ident.clone()).or_default();
                defined.names.insert(argument.their.node.clone());
            }
        }
        Stmt::Assign(assign) => {
            if let (AssignTarget::Identifier(name), true) = (&assign.lhs.node, is_context(&assign.rhs, mentions)) {
                mentions.aliases.insert(name.node.ident.clone());
            }
            target(&assign.lhs.node, mentions);
        }
        Stmt::AssignModify(left, ..) => target(&left.node, mentions),
        _ => {}
    }
    statement.node.visit_children(|child| match child {
        Visit::Stmt(statement) => visit(statement, mentions, definitions),
        Visit::Expr(expression) => names(expression, mentions),
    });
}

fn target(target: &AssignTarget, mentions: &mut Mentions) {
    match target {
        AssignTarget::Index(parts) => {
            let (of, key) = &**parts;
            if let (true, Expr::Literal(AstLiteral::String(key))) = (is_context(of, mentions), &key.node) {
                mentions.keys.insert(key.node.clone());
            }
        }
        AssignTarget::Tuple(targets) => targets.iter().for_each(|inner| self::target(&inner.node, mentions)),
        AssignTarget::Dot(..) | AssignTarget::Identifier(_) => {}
    }
}

/// Returns true for `ctx.context`, or a variable that holds it.
fn is_context(expression: &AstExpr, mentions: &Mentions) -> bool {
    match &expression.node {
        Expr::Dot(_, attribute) => attribute.node == "context",
        Expr::Identifier(name) => mentions.aliases.contains(&name.node.ident),
        _ => false,
    }
}

fn names(expression: &AstExpr, mentions: &mut Mentions) {
    if let Expr::Identifier(name) = &expression.node {
        mentions.names.insert(name.node.ident.clone());
    }
    expression.node.visit_expr(|child| names(child, mentions));
}

#[cfg(test)]
mod tests {
    use starlark::syntax::AstModule;

    use super::super::dialect;
    use super::*;

    fn keys(files: &[&str], function: &str) -> Vec<String> {
        let mut definitions = Definitions::new();
        for text in files {
            let program = AstModule::parse("app.star", (*text).to_owned(), &dialect()).unwrap();
            collect(program.statement(), &mut definitions);
        }
        keys_of(function, &definitions).into_iter().collect()
    }

    #[test]
    fn literal_keys_are_found() {
        let table: [(&str, &[&str]); 7] = [
            ("def f(ctx):\n  ctx.context['a'] = '1'\n", &["a"]),
            (
                "def f(c):\n  if c.service:\n    for x in []:\n      c.context['a'] = x\n  c.context['b'] = '1'\n",
                &["a", "b"],
            ),
            ("def f(ctx):\n  out = ctx.context\n  out['a'], out['b'] = '1', '2'\n", &["a", "b"]),
            ("def f(ctx):\n  def g():\n    ctx.context['a'] = '1'\n  g()\n", &["a"]),
            ("def f(ctx):\n  x = {}\n  x['a'] = 1\n  print(ctx.context['b'])\n", &[]),
            ("def f(ctx):\n  ctx.context[ctx.service] = '1'\n", &[]),
            ("def f(ctx):\n  pass\ndef g(ctx):\n  ctx.context['a'] = '1'\n", &[]),
        ];
        for (text, expected) in table {
            assert_eq!(keys(&[text], "f"), expected, "{text}");
        }
    }

    #[test]
    fn called_functions_are_followed() {
        let library = "def give(ctx):\n  ctx.context['a'] = '1'\n  f(ctx)\n";
        let program = "load('lib.star', set_a = 'give')\ndef g(ctx):\n  [set_a(ctx) for _ in range(1)]\n\
                       def f(ctx):\n  ctx.context['b'] = '2'\n  g(ctx)\n";
        assert_eq!(keys(&[library, program], "f"), ["a", "b"]);
        assert_eq!(keys(&[program, library], "g"), ["a", "b"]);
        assert_eq!(keys(&[program], "missing"), Vec::<String>::new());
    }
}
