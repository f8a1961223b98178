//! A template's syntax tree with bounds around what can take much memory or time at one step, for which the engine
//! counts one instruction: operators, literals, slices and printed text.
//!
//! The bounds are filters, under names that no template can spell.

use minijinja::Value;
use minijinja::machinery::Span;
use minijinja::machinery::ast::*;

/// What an operator made is paid for.
pub(crate) const MADE: &str = "(made)";
/// What a macro returns is no longer than a text may be.
pub(crate) const RETURNED: &str = "(returned)";
/// An operand that is walked through.
pub(crate) const WEIGHED: &str = "(weighed)";
/// A container in which something is looked for: dictionaries are not walked through.
pub(crate) const SEARCHED: &str = "(searched)";
/// Multiplication, which knows what it makes before it makes it.
pub(crate) const TIMES: &str = "(times)";
/// Looks at the clock.
pub(crate) const TICK: &str = "(tick)";

/// The tree with bounds.
pub(crate) fn guarded<'a>(stmt: &Stmt<'a>) -> Stmt<'a> {
    match stmt {
        Stmt::Template(node) => Stmt::Template(at(Template { children: body(&node.children) }, node)),
        Stmt::EmitExpr(node) => {
            // Some calls print by themselves.
            let expr = match &node.expr {
                Expr::Call(it) => Expr::Call(call(it)),
                expr => value(expr),
            };
            Stmt::EmitExpr(at(EmitExpr { expr }, node))
        }
        // As a value it is counted where values are printed.
        Stmt::EmitRaw(node) => {
            let expr = constant(Value::from(node.raw), node.span());
            Stmt::EmitExpr(at(EmitExpr { expr }, node))
        }
        Stmt::ForLoop(node) => Stmt::ForLoop(at(
            ForLoop {
                target: target(&node.target),
                iter: value(&node.iter),
                filter_expr: node.filter_expr.as_ref().map(value),
                recursive: node.recursive,
                body: ticking(&node.body, node.span()),
                else_body: body(&node.else_body),
            },
            node,
        )),
        Stmt::IfCond(node) => Stmt::IfCond(at(
            IfCond {
                expr: value(&node.expr),
                true_body: body(&node.true_body),
                false_body: body(&node.false_body),
            },
            node,
        )),
        Stmt::WithBlock(node) => {
            let assignments = node.assignments.iter().map(|(to, from)| (target(to), value(from))).collect();
            Stmt::WithBlock(at(WithBlock { assignments, body: body(&node.body) }, node))
        }
        Stmt::Set(node) => Stmt::Set(at(Set { target: target(&node.target), expr: value(&node.expr) }, node)),
        Stmt::SetBlock(node) => {
            let filter = match &node.filter {
                Some(chain) => filter_chain(chain),
                None => filter(RETURNED, None, node.span()),
            };
            let (to, body) = (target(&node.target), body(&node.body));
            Stmt::SetBlock(at(SetBlock { target: to, filter: Some(filter), body }, node))
        }
        Stmt::AutoEscape(node) => {
            Stmt::AutoEscape(at(AutoEscape { enabled: value(&node.enabled), body: body(&node.body) }, node))
        }
        Stmt::FilterBlock(node) => {
            let (filter, body) = (filter_chain(&node.filter), body(&node.body));
            Stmt::FilterBlock(at(FilterBlock { filter, body }, node))
        }
        Stmt::Block(node) => {
            let (name, required, body) = (node.name, node.required, ticking(&node.body, node.span()));
            Stmt::Block(at(Block { name, required, body }, node))
        }
        Stmt::Import(node) => {
            Stmt::Import(at(Import { expr: value(&node.expr), name: target(&node.name) }, node))
        }
        Stmt::FromImport(node) => {
            let names = node.names.iter().map(|(name, alias)| (target(name), alias.as_ref().map(target)));
            Stmt::FromImport(at(FromImport { expr: value(&node.expr), names: names.collect() }, node))
        }
        Stmt::Extends(node) => Stmt::Extends(at(Extends { name: operand(&node.name, WEIGHED) }, node)),
        Stmt::Include(node) => {
            let (name, ignore_missing) = (operand(&node.name, WEIGHED), node.ignore_missing);
            Stmt::Include(at(Include { name, ignore_missing }, node))
        }
        Stmt::Macro(node) => Stmt::Macro(macro_of(node)),
        Stmt::CallBlock(node) => {
            let (call, macro_decl) = (call(&node.call), macro_of(&node.macro_decl));
            Stmt::CallBlock(at(CallBlock { call, macro_decl }, node))
        }
        Stmt::Continue(node) => Stmt::Continue(at(Continue, node)),
        Stmt::Break(node) => Stmt::Break(at(Break, node)),
        Stmt::Do(node) => Stmt::Do(at(Do { call: call(&node.call) }, node)),
    }
}

/// An expression that is computed.
fn value<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Var(_) | Expr::Const(_) => target(expr),
        Expr::Slice(node) => {
            let part = |part: &Option<Expr<'a>>| part.as_ref().map(value);
            let (start, stop, step) = (part(&node.start), part(&node.stop), part(&node.step));
            wrap(MADE, Expr::Slice(at(Slice { expr: value(&node.expr), start, stop, step }, node)))
        }
        Expr::UnaryOp(node) => {
            #[expect(clippy::needless_match, reason = "it has no copy")]
            let op = match node.op {
                UnaryOpKind::Not => UnaryOpKind::Not,
                UnaryOpKind::Neg => UnaryOpKind::Neg,
            };
            Expr::UnaryOp(at(UnaryOp { op, expr: value(&node.expr) }, node))
        }
        Expr::BinOp(node) => operator(node),
        Expr::Compare(node) => {
            let ops = node.ops.iter().map(|it| {
                let searches = matches!(it.op, CompareOpKind::In | CompareOpKind::NotIn);
                CompareOp { op: it.op, expr: operand(&it.expr, if searches { SEARCHED } else { WEIGHED }) }
            });
            Expr::Compare(at(Compare { expr: operand(&node.expr, WEIGHED), ops: ops.collect() }, node))
        }
        Expr::IfExpr(node) => Expr::IfExpr(at(
            IfExpr {
                test_expr: value(&node.test_expr),
                true_expr: value(&node.true_expr),
                false_expr: node.false_expr.as_ref().map(value),
            },
            node,
        )),
        Expr::Filter(node) => {
            let (name, expr, args) = (node.name, node.expr.as_ref().map(value), arguments(&node.args));
            Expr::Filter(at(Filter { name, expr, args }, node))
        }
        Expr::Test(node) => {
            let (name, expr, args) = (node.name, value(&node.expr), arguments(&node.args));
            Expr::Test(at(Test { name, expr, args }, node))
        }
        Expr::GetAttr(node) => Expr::GetAttr(at(GetAttr { expr: value(&node.expr), name: node.name }, node)),
        Expr::GetItem(node) => {
            let subscript_expr = operand(&node.subscript_expr, WEIGHED);
            Expr::GetItem(at(GetItem { expr: value(&node.expr), subscript_expr }, node))
        }
        Expr::Call(node) => wrap(RETURNED, Expr::Call(call(node))),
        Expr::List(node) => {
            let list = Expr::List(at(List { items: values(&node.items) }, node));
            if all_constant(&node.items) { list } else { wrap(MADE, list) }
        }
        Expr::Tuple(node) => {
            let tuple = Expr::Tuple(at(Tuple { items: values(&node.items) }, node));
            if all_constant(&node.items) { tuple } else { wrap(MADE, tuple) }
        }
        Expr::Map(node) => {
            let keys = node.keys.iter().map(|key| operand(key, WEIGHED)).collect();
            let map = Expr::Map(at(Map { keys, values: values(&node.values) }, node));
            let constant = all_constant(&node.keys) && all_constant(&node.values);
            if constant { map } else { wrap(MADE, map) }
        }
    }
}

fn operator<'a>(node: &Spanned<BinOp<'a>>) -> Expr<'a> {
    use BinOpKind as Op;
    let binary = |left, right| Expr::BinOp(Spanned::new(BinOp { op: node.op, left, right }, node.span()));
    let (left, right) = (&node.left, &node.right);
    match node.op {
        Op::Eq | Op::Ne | Op::Lt | Op::Lte | Op::Gt | Op::Gte => {
            binary(operand(left, WEIGHED), operand(right, WEIGHED))
        }
        Op::In => binary(operand(left, WEIGHED), operand(right, SEARCHED)),
        Op::Concat => wrap(MADE, binary(operand(left, WEIGHED), operand(right, WEIGHED))),
        Op::Add => wrap(MADE, binary(value(left), value(right))),
        Op::Mul => {
            let (expr, args) = (Some(value(left)), vec![CallArg::Pos(value(right))]);
            Expr::Filter(at(Filter { name: TIMES, expr, args }, node))
        }
        Op::ScAnd | Op::ScOr | Op::Sub | Op::Div | Op::FloorDiv | Op::Rem | Op::Pow => {
            binary(value(left), value(right))
        }
    }
}

/// An operand under a bound; a constant needs none.
fn operand<'a>(expr: &Expr<'a>, bound: &'static str) -> Expr<'a> {
    match expr {
        Expr::Const(_) => target(expr),
        _ => wrap(bound, value(expr)),
    }
}

/// An expression as it is: what is assigned to.
fn target<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let all = |items: &[Expr<'a>]| items.iter().map(target).collect();
    match expr {
        Expr::Var(node) => Expr::Var(at(Var { id: node.id }, node)),
        Expr::Const(node) => constant(node.value.clone(), node.span()),
        Expr::GetAttr(node) => Expr::GetAttr(at(GetAttr { expr: target(&node.expr), name: node.name }, node)),
        Expr::List(node) => Expr::List(at(List { items: all(&node.items) }, node)),
        Expr::Tuple(node) => Expr::Tuple(at(Tuple { items: all(&node.items) }, node)),
        other => value(other),
    }
}

/// Filters of a block, the first of which is given the block's text.
fn filter_chain<'a>(chain: &Expr<'a>) -> Expr<'a> {
    match chain {
        Expr::Filter(node) => {
            let expr = match &node.expr {
                Some(inner) => filter_chain(inner),
                None => filter(RETURNED, None, node.span()),
            };
            let (name, args) = (node.name, arguments(&node.args));
            Expr::Filter(at(Filter { name, expr: Some(expr), args }, node))
        }
        other => value(other),
    }
}

fn macro_of<'a>(node: &Spanned<Macro<'a>>) -> Spanned<Macro<'a>> {
    let (args, defaults) = (node.args.iter().map(target).collect(), values(&node.defaults));
    at(Macro { name: node.name, args, defaults, body: ticking(&node.body, node.span()) }, node)
}

fn call<'a>(node: &Spanned<Call<'a>>) -> Spanned<Call<'a>> {
    let mut args = arguments(&node.args);
    // `loop.changed` compares, and is the engine's own.
    if let Expr::GetAttr(method) = &node.expr
        && method.name == "changed"
    {
        args = args.into_iter().map(weighed_argument).collect();
    }
    at(Call { expr: value(&node.expr), args }, node)
}

fn weighed_argument(arg: CallArg) -> CallArg {
    match arg {
        CallArg::Pos(expr) => CallArg::Pos(wrap(WEIGHED, expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(wrap(WEIGHED, expr)),
        other => other,
    }
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let each = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(expr) => CallArg::Pos(value(expr)),
        CallArg::Kwarg(name, expr) => CallArg::Kwarg(name, value(expr)),
        CallArg::PosSplat(expr) => CallArg::PosSplat(value(expr)),
        CallArg::KwargSplat(expr) => CallArg::KwargSplat(value(expr)),
    };
    args.iter().map(each).collect()
}

/// A body that looks at the clock each time.
fn ticking<'a>(stmts: &[Stmt<'a>], span: Span) -> Vec<Stmt<'a>> {
    let expr = wrap(TICK, constant(Value::from(""), span));
    let mut all = vec![Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, span))];
    all.extend(body(stmts));
    all
}

fn body<'a>(stmts: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    stmts.iter().map(guarded).collect()
}

fn values<'a>(exprs: &[Expr<'a>]) -> Vec<Expr<'a>> {
    exprs.iter().map(value).collect()
}

fn all_constant(exprs: &[Expr]) -> bool {
    exprs.iter().all(|expr| matches!(expr, Expr::Const(_)))
}

fn constant(value: Value, span: Span) -> Expr<'static> {
    Expr::Const(Spanned::new(Const { value }, span))
}

fn wrap<'a>(name: &'static str, expr: Expr<'a>) -> Expr<'a> {
    let span = expr.span();
    filter(name, Some(expr), span)
}

fn filter<'a>(name: &'static str, expr: Option<Expr<'a>>, span: Span) -> Expr<'a> {
    Expr::Filter(Spanned::new(Filter { name, expr, args: Vec::new() }, span))
}

fn at<T, U>(node: T, of: &Spanned<U>) -> Spanned<T> {
    Spanned::new(node, of.span())
}
