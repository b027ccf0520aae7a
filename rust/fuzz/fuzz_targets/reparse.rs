//! Any text is an expression or a `SyntaxError`; any values give it a result that fits or an `EvaluationError`; and its
//! columns agree with its rows, whole or in pieces.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smok_core::pathpoint::Kind;
use smok_core::reparse::{
    Column, Entry, Failure, MAX_TEXT, Operand, Outcome, Piece, Program, SeriesEvaluator, Stack,
    Values,
};
use smok_core::value::Value;

/// How many rows there are.
const ROWS: usize = 6;

const LETTERS: [char; 6] = ['B', 'W', 'w', 'f', 'd', 'u'];

fuzz_target!(|text: &str| {
    let program = match Program::parse(text) {
        Ok(program) => program,
        Err(error) => {
            assert!(error.position <= text.chars().count());
            return;
        }
    };
    assert!(program.explain().len() <= MAX_TEXT);
    let table: Vec<Vec<Operand>> = (0..program.variables().len())
        .map(|slot| (0..ROWS).map(|row| operand(slot, row)).collect())
        .collect();
    for kind in [None, Kind::from_letter(LETTERS[text.len() % LETTERS.len()])] {
        let rows = one_by_one(&program, kind, &table);
        for operand in rows.iter().flatten() {
            assert!(Value::try_from(operand.clone()).is_ok());
        }
        if !table.is_empty() {
            for most in [ROWS, 2] {
                let series = over_time(&program, kind, &table, most);
                assert_eq!(format!("{series:?}"), format!("{rows:?}"));
            }
        }
    }
});

/// Each row by itself.
fn one_by_one(program: &Program, kind: Option<Kind>, table: &[Vec<Operand>]) -> Vec<Outcome> {
    let mut stack = Stack::default();
    (0..ROWS)
        .map(|row| {
            let variables: Vec<Operand> =
                table.iter().map(|operands| operands[row].clone()).collect();
            match kind {
                Some(kind) => program.evaluate_as(kind, &variables, &mut stack),
                None => program.evaluate(&variables, &mut stack),
            }
            .map_err(Failure::Evaluation)
        })
        .collect()
}

/// The same rows as a series, from pieces of so many samples.
fn over_time(
    program: &Program,
    kind: Option<Kind>,
    table: &[Vec<Operand>],
    most: usize,
) -> Vec<Outcome> {
    let timestamps: Vec<i64> = (0..ROWS as i64).collect();
    let entries: Vec<Vec<Entry>> = table
        .iter()
        .map(|operands| operands.iter().cloned().map(Ok).collect())
        .collect();
    let lengths = entries.iter().map(|entries| (ROWS, entries.len()));
    let mut evaluator = SeriesEvaluator::new(program, kind, lengths).unwrap();
    let mut begin = 0;
    loop {
        let end = ROWS.min(begin + most);
        let pieces: Vec<Piece<'_>> = entries
            .iter()
            .map(|entries| Piece {
                samples: Column {
                    timestamps: &timestamps[begin..end],
                    values: Values::Entries(&entries[begin..end]),
                },
                complete: end == ROWS,
            })
            .collect();
        let done = evaluator.advance(&pieces).unwrap();
        if end == ROWS {
            return evaluator.finish().results.into_outcomes();
        }
        begin += done[0];
    }
}

/// A value that expressions meet rarely; integers in the first pathpoint, and so on.
fn operand(slot: usize, row: usize) -> Operand {
    const INTS: [i64; ROWS] = [0, 1, -7, 65_535, i64::MAX, i64::MIN];
    const FLOATS: [f64; ROWS] = [
        0.0,
        -0.5,
        1e300,
        f64::NAN,
        f64::INFINITY,
        9_007_199_254_740_993.0,
    ];
    const TEXTS: [&str; ROWS] = ["", "12", "ż", "-1e5", "abcabc", " 0x1f\u{a0}"];
    match slot % 5 {
        0 => Operand::Int(INTS[row].into()),
        1 => Operand::Float(FLOATS[row]),
        2 => Operand::Text(TEXTS[row].into()),
        3 => Operand::Bool(row % 2 == 0),
        _ if row % 2 == 0 => Operand::Int(INTS[row].into()),
        _ => Operand::Float(FLOATS[row]),
    }
}
