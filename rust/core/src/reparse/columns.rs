//! Runs code on a batch of rows, an operation at a time.
//!
//! Operations on columns of one type are loops over slices. Others go row by row over [`Word`]s. A row that needs more than
//! words (text, a wide integer, an error) becomes [`SPILLED`] and stays so through all operations; whoever asked evaluates
//! that row by itself. Both branches of a condition are computed for all rows, and the joins pick: a row that is spilled only
//! in the branch that it does not take comes out whole.

use std::borrow::Cow;

use super::arithmetic::{Binary, Unary, binary, unary};
use super::coerce::coerce_word;
use super::compare::{Comparison, compare};
use super::functions::{Function, call};
use super::operand::Operand;
use super::program::{Op, Program};
use super::series::{Column, Pick, Rows, Values};
use super::text::Budget;
use super::word::{View, Word, exact};
use crate::pathpoint::Kind;
use crate::value::{Reading, Value};

/// A row that words cannot hold.
const SPILLED: Word = Word::spilled(0);

/// One operand of every row of a batch.
#[derive(Debug)]
pub(super) enum Lane<'a> {
    Ints(Cow<'a, [i64]>),
    Floats(Cow<'a, [f64]>),
    Bools(Vec<bool>),
    Words(Vec<Word>),
}

/// How many lanes the code needs at once.
pub(super) fn depth(code: &[Op]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for op in code.iter().filter(|op| !op.is_jump()) {
        depth = depth.saturating_sub(op.operands());
        depth += if matches!(op, Op::Chain(..)) { 2 } else { 1 };
        deepest = deepest.max(depth);
    }
    deepest
}

/// Evaluates a program for the rows; those that are spilled in the result have to be evaluated by themselves.
pub(super) fn run<'a>(
    program: &Program,
    kind: Option<Kind>,
    columns: &[Column<'a>],
    rows: &Rows<'_>,
) -> Lane<'a> {
    let mut stack: Vec<Lane<'a>> = Vec::new();
    for op in program.code.iter().filter(|op| !op.is_jump()) {
        let mut taken = stack.split_off(stack.len().saturating_sub(op.operands()));
        let result = match (*op, taken.as_slice()) {
            (Op::Constant(index), _) => {
                constant(program.constants.get(usize::from(index)), rows.count)
            }
            (Op::Load(slot), _) => load(usize::from(slot), columns, rows),
            (Op::Unary(op), [operand]) => apply_unary(op, operand, rows.count),
            (Op::Binary(op), [left, right]) => apply_binary(op, left, right, rows.count),
            (Op::Compare(op), [left, right]) => apply_comparison(op, left, right, rows.count),
            (Op::Chain(op, _), [left, right]) => {
                stack.push(apply_comparison(op, left, right, rows.count));
                match taken.pop() {
                    Some(middle) => middle,
                    None => continue,
                }
            }
            (Op::And | Op::EndChain, [left, right]) => select(left, right, left, rows.count),
            (Op::Or, [left, right]) => select(left, left, right, rows.count),
            (Op::Select, [condition, then, otherwise]) => {
                select(condition, then, otherwise, rows.count)
            }
            (Op::Call(function, _), arguments) => apply_call(function, arguments, rows.count),
            _ => spilled(rows.count),
        };
        stack.push(result);
    }
    let result = stack.pop().unwrap_or_else(|| spilled(rows.count));
    let result = match (kind, result) {
        (None, lane) | (Some(Kind::Single | Kind::Double), lane @ Lane::Floats(_)) => lane,
        (Some(kind), lane) => by_row(rows.count, |row| coerce_word(lane.word(row), kind)),
    };
    spill_failures(result, columns, rows)
}

impl<'a> Lane<'a> {
    /// Words, in a lane of their type if they have one.
    fn of_words(words: Vec<Word>) -> Self {
        let ints: Option<Vec<i64>> = words
            .iter()
            .map(|word| {
                if let View::Int(int) = word.view() {
                    Some(int)
                } else {
                    None
                }
            })
            .collect();
        if let Some(ints) = ints {
            return Lane::Ints(ints.into());
        }
        let floats: Option<Vec<f64>> = words
            .iter()
            .map(|word| {
                if let View::Float(float) = word.view() {
                    Some(float)
                } else {
                    None
                }
            })
            .collect();
        floats.map_or(Lane::Words(words), |floats| Lane::Floats(floats.into()))
    }

    /// The operand of a row.
    pub(super) fn word(&self, row: usize) -> Word {
        match self {
            Lane::Ints(ints) => ints.get(row).copied().map(Word::int),
            Lane::Floats(floats) => floats.get(row).copied().map(Word::float),
            Lane::Bools(bools) => bools.get(row).copied().map(Word::bool),
            Lane::Words(words) => words.get(row).copied(),
        }
        .unwrap_or(SPILLED)
    }

    /// The operands as floats, if all are numbers that are floats without loss.
    fn floats(&self) -> Option<Cow<'_, [f64]>> {
        match self {
            Lane::Floats(floats) => Some(Cow::Borrowed(floats)),
            Lane::Ints(ints) => ints.iter().map(|int| exact(*int)).collect(),
            Lane::Bools(_) | Lane::Words(_) => None,
        }
    }

    /// Python's truth of the operands, if none is spilled.
    fn truth(&self) -> Option<Cow<'_, [bool]>> {
        match self {
            Lane::Ints(ints) => Some(ints.iter().map(|int| *int != 0).collect()),
            Lane::Floats(floats) => Some(floats.iter().map(|float| *float != 0.0).collect()),
            Lane::Bools(bools) => Some(Cow::Borrowed(bools)),
            Lane::Words(words) => words.iter().map(|word| word.is_true()).collect(),
        }
    }
}

fn spilled<'a>(count: usize) -> Lane<'a> {
    Lane::Words(vec![SPILLED; count])
}

fn constant<'a>(constant: Option<&Operand>, count: usize) -> Lane<'a> {
    match constant.and_then(Word::new).unwrap_or(SPILLED).view() {
        View::Bool(bool) => Lane::Bools(vec![bool; count]),
        View::Int(int) => Lane::Ints(vec![int; count].into()),
        View::Float(float) => Lane::Floats(vec![float; count].into()),
        View::Spilled(_) => spilled(count),
    }
}

/// The values of a pathpoint.
fn load<'a>(slot: usize, columns: &[Column<'a>], rows: &Rows<'_>) -> Lane<'a> {
    let (Some(column), Some(pick)) = (columns.get(slot), rows.picks.get(slot)) else {
        return spilled(rows.count);
    };
    let lane = match column.values {
        Values::Ints(ints) => pick_values(ints, pick, rows.count).map(Lane::Ints),
        Values::Floats(floats) => pick_values(floats, pick, rows.count).map(Lane::Floats),
        Values::Readings(readings) => {
            let word = |row| match readings.get(pick.sample(row)) {
                Some(Reading::Value(Value::Int(int))) => Word::int(*int),
                Some(Reading::Value(Value::Float(float))) => Word::float(*float),
                _ => SPILLED,
            };
            Some(Lane::of_words((0..rows.count).map(word).collect()))
        }
    };
    lane.unwrap_or_else(|| spilled(rows.count))
}

fn pick_values<'a, T: Copy>(values: &'a [T], pick: &Pick, count: usize) -> Option<Cow<'a, [T]>> {
    match pick {
        Pick::Run(first) => values
            .get(*first..first.checked_add(count)?)
            .map(Cow::Borrowed),
        Pick::Each(samples) => samples
            .iter()
            .map(|sample| values.get(*sample).copied())
            .collect(),
    }
}

/// A row of which a pathpoint could not be read has failed, whatever the expression makes of it.
fn spill_failures<'a>(lane: Lane<'a>, columns: &[Column<'a>], rows: &Rows<'_>) -> Lane<'a> {
    let failed = |row: usize| {
        columns
            .iter()
            .zip(&rows.picks)
            .any(|(column, pick)| match column.values {
                Values::Readings(readings) => {
                    matches!(readings.get(pick.sample(row)), Some(Reading::Failed(_)))
                }
                Values::Ints(_) | Values::Floats(_) => false,
            })
    };
    let all_numbers = columns
        .iter()
        .all(|column| !matches!(column.values, Values::Readings(_)));
    if all_numbers || !(0..rows.count).any(failed) {
        return lane;
    }
    let word = |row| if failed(row) { SPILLED } else { lane.word(row) };
    Lane::Words((0..rows.count).map(word).collect())
}

/// `op operand`
fn apply_unary<'a>(op: Unary, operand: &Lane<'a>, count: usize) -> Lane<'a> {
    let lane = match (op, operand) {
        (Unary::Not, operand) => operand
            .truth()
            .map(|truth| Lane::Bools(truth.iter().map(|truth| !truth).collect())),
        (Unary::Negative, Lane::Floats(floats)) => {
            Some(Lane::Floats(floats.iter().map(|float| -float).collect()))
        }
        (Unary::Negative, Lane::Ints(ints)) => ints
            .iter()
            .map(|int| int.checked_neg())
            .collect::<Option<_>>()
            .map(Lane::Ints),
        _ => None,
    };
    lane.unwrap_or_else(|| {
        by_row(count, |row| {
            let result = unary(op, &operand.word(row).operand()?).ok()?;
            Word::new(&result)
        })
    })
}

/// `left op right`
fn apply_binary<'a>(op: Binary, left: &Lane<'a>, right: &Lane<'a>, count: usize) -> Lane<'a> {
    let lane = match (left, right) {
        (Lane::Ints(left), Lane::Ints(right)) if op != Binary::Divide => {
            integers(op, left, right).map(Lane::Ints)
        }
        _ => match (left.floats(), right.floats()) {
            (Some(left), Some(right)) => floats(op, &left, &right).map(Lane::Floats),
            _ => None,
        },
    };
    lane.unwrap_or_else(|| {
        by_row(count, |row| {
            let (left, right) = (left.word(row), right.word(row));
            Word::binary(op, left, right).or_else(|| {
                let (left, right) = (left.operand()?, right.operand()?);
                Word::new(&binary(op, &left, &right, &mut Budget::new()).ok()?)
            })
        })
    })
}

fn integers<'a>(op: Binary, left: &[i64], right: &[i64]) -> Option<Cow<'a, [i64]>> {
    let operation = match op {
        Binary::Add => i64::checked_add,
        Binary::Subtract => i64::checked_sub,
        Binary::Multiply => i64::checked_mul,
        _ => return None,
    };
    left.iter()
        .zip(right)
        .map(|(left, right)| operation(*left, *right))
        .collect()
}

fn floats<'a>(op: Binary, left: &[f64], right: &[f64]) -> Option<Cow<'a, [f64]>> {
    let pairs = left.iter().zip(right);
    Some(match op {
        Binary::Add => pairs.map(|(left, right)| left + right).collect(),
        Binary::Subtract => pairs.map(|(left, right)| left - right).collect(),
        Binary::Multiply => pairs.map(|(left, right)| left * right).collect(),
        Binary::Divide if !right.contains(&0.0) => {
            pairs.map(|(left, right)| left / right).collect()
        }
        _ => return None,
    })
}

/// `left op right`
fn apply_comparison<'a>(
    op: Comparison,
    left: &Lane<'a>,
    right: &Lane<'a>,
    count: usize,
) -> Lane<'a> {
    let bools = match (left, right) {
        (Lane::Ints(left), Lane::Ints(right)) => order(op, left, right),
        _ => match (left.floats(), right.floats()) {
            (Some(left), Some(right)) => order(op, &left, &right),
            _ => None,
        },
    };
    bools.map(Lane::Bools).unwrap_or_else(|| {
        by_row(count, |row| {
            holds(op, left.word(row), right.word(row)).map(Word::bool)
        })
    })
}

fn order<T: PartialOrd>(op: Comparison, left: &[T], right: &[T]) -> Option<Vec<bool>> {
    let pairs = left.iter().zip(right);
    Some(match op {
        Comparison::Equal => pairs.map(|(left, right)| left == right).collect(),
        Comparison::NotEqual => pairs.map(|(left, right)| left != right).collect(),
        Comparison::Less => pairs.map(|(left, right)| left < right).collect(),
        Comparison::LessEqual => pairs.map(|(left, right)| left <= right).collect(),
        Comparison::Greater => pairs.map(|(left, right)| left > right).collect(),
        Comparison::GreaterEqual => pairs.map(|(left, right)| left >= right).collect(),
        Comparison::In | Comparison::NotIn => return None,
    })
}

fn holds(op: Comparison, left: Word, right: Word) -> Option<bool> {
    Word::compare(op, left, right)
        .or_else(|| compare(op, &left.operand()?, &right.operand()?, &mut Budget::new()).ok())
}

/// For each row `then` where the condition is true, else `otherwise`.
fn select<'a>(
    condition: &Lane<'a>,
    then: &Lane<'a>,
    otherwise: &Lane<'a>,
    count: usize,
) -> Lane<'a> {
    fn pick<T: Copy>(truth: &[bool], then: &[T], otherwise: &[T]) -> Vec<T> {
        let branches = then.iter().zip(otherwise);
        truth
            .iter()
            .zip(branches)
            .map(|(truth, (then, otherwise))| if *truth { *then } else { *otherwise })
            .collect()
    }
    match (condition.truth(), then, otherwise) {
        (Some(truth), Lane::Ints(then), Lane::Ints(otherwise)) => {
            Lane::Ints(pick(&truth, then, otherwise).into())
        }
        (Some(truth), Lane::Floats(then), Lane::Floats(otherwise)) => {
            Lane::Floats(pick(&truth, then, otherwise).into())
        }
        (Some(truth), Lane::Bools(then), Lane::Bools(otherwise)) => {
            Lane::Bools(pick(&truth, then, otherwise))
        }
        _ => by_row(count, |row| {
            let taken = if condition.word(row).is_true()? {
                then
            } else {
                otherwise
            };
            Some(taken.word(row))
        }),
    }
}

/// A function of the arguments of each row.
fn apply_call<'a>(function: Function, arguments: &[Lane<'a>], count: usize) -> Lane<'a> {
    if let (Some(better), [first, second, rest @ ..]) = (function.better(), arguments) {
        let two = extreme(better, first, second, count);
        return rest
            .iter()
            .fold(two, |best, next| extreme(better, &best, next, count));
    }
    let mut operands = Vec::new();
    by_row(count, |row| {
        operands.clear();
        for argument in arguments {
            operands.push(argument.word(row).operand()?);
        }
        Word::new(&call(function, &operands, &mut Budget::new()).ok()?)
    })
}

/// For each row the right operand where it is better, else the left one.
fn extreme<'a>(better: Comparison, left: &Lane<'a>, right: &Lane<'a>, count: usize) -> Lane<'a> {
    select(
        &apply_comparison(better, right, left, count),
        right,
        left,
        count,
    )
}

/// Computes the rows one by one; those for which there is no word are spilled.
fn by_row<'a>(count: usize, mut word: impl FnMut(usize) -> Option<Word>) -> Lane<'a> {
    Lane::of_words((0..count).map(|row| word(row).unwrap_or(SPILLED)).collect())
}
