//! Shows code as the tree that it was parsed from.

use super::op::Op;
use super::operand::Operand;
use super::program::Program;
use super::quote::{quoted, shown};
use super::text::{Budget, from_operand};
use super::{MAX_TEXT, parser};

impl Program {
    /// The tree that the text was parsed into, one node a line, as it is before constants are folded.
    #[must_use]
    pub fn explain(&self) -> String {
        parser::parse(&self.source, false).map_or_else(|error| error.caret, |raw| tree(&raw))
    }
}

/// A line of the tree and the lines below it.
struct Node {
    label: String,
    children: Vec<usize>,
}

/// The tree of a program whose constants are not folded: one node a line, operands indented below their operation.
///
/// Cut at [`MAX_TEXT`] bytes, since the indentation of a long sum grows with its square.
fn tree(program: &Program) -> String {
    let mut nodes: Vec<Node> = Vec::new();
    let mut stack: Vec<usize> = Vec::new();
    for op in program.code.iter().filter(|op| !op.is_jump()) {
        let children = stack.split_off(stack.len().saturating_sub(op.operands()));
        let label = label(*op, program);
        stack.push(nodes.len());
        nodes.push(Node { label, children });
        if let Op::Chain(..) = op {
            // The operand in the middle is evaluated once, and the next link compares it as well.
            stack.push(nodes.len());
            nodes.push(Node {
                label: "(the same)".into(),
                children: Vec::new(),
            });
        }
    }
    render(&nodes, stack)
}

fn label(op: Op, program: &Program) -> String {
    match op {
        Op::Constant(index) => constant(program.constants.get(usize::from(index))),
        Op::Load(slot) => {
            let name = program.variables.get(usize::from(slot));
            format!("{{{}}}", name.map_or(String::new(), |name| shown(name)))
        }
        Op::Unary(op) => op.symbol().into(),
        Op::Binary(op) => op.symbol().into(),
        Op::Compare(op) | Op::Chain(op, _) => op.symbol().into(),
        Op::Call(function, _) => format!("{}()", function.name()),
        Op::Index => "[]".into(),
        Op::Slice(parts) => {
            let part = |wanted: bool, name| if wanted { name } else { "" };
            let (start, stop) = (part(parts.start, "start"), part(parts.stop, "stop"));
            format!("[{start}:{stop}{}]", part(parts.step, ":step"))
        }
        Op::Select => "if, then, else".into(),
        Op::And | Op::EndChain => "and".into(),
        Op::Or => "or".into(),
        Op::Unless(_) | Op::Skip(_) | Op::SkipIfFalse(_) | Op::SkipIfTrue(_) => String::new(),
    }
}

fn constant(constant: Option<&Operand>) -> String {
    match constant {
        Some(Operand::Text(text)) => quoted(text),
        Some(number) => match from_operand(number, &mut Budget::default()) {
            Ok(Operand::Text(text)) => text.to_string(),
            _ => String::new(),
        },
        None => String::new(),
    }
}

/// The nodes from the root down. Without recursion, since a sum is as deep as it is long.
fn render(nodes: &[Node], roots: Vec<usize>) -> String {
    let mut lines = String::new();
    let mut pending: Vec<(usize, usize)> = roots.into_iter().map(|root| (root, 0)).collect();
    while let Some((index, depth)) = pending.pop() {
        let Some(node) = nodes.get(index) else {
            continue;
        };
        if lines.len() + 2 * depth + node.label.len() + "\n…".len() > MAX_TEXT {
            lines.push('…');
            break;
        }
        lines.extend(std::iter::repeat_n("  ", depth));
        lines.push_str(&node.label);
        lines.push('\n');
        pending.extend(node.children.iter().rev().map(|child| (*child, depth + 1)));
    }
    lines.truncate(lines.trim_end().len());
    lines
}
