//! Few requests for many registers.
//!
//! Registers that lie close together are read in one request, since a request costs far more than a register: a round
//! trip, and on a serial line behind a gateway about eight bytes besides the data. Where a unit refuses to have two
//! neighbours read together, the planner is told so with a cut.
//!
//! Invariants of a plan: every register lies within exactly one block; a block is within the limit of one request, has
//! no gap wider than allowed, and spans no cut; there are as few blocks as these rules permit; the order in which the
//! registers are given makes no difference to the blocks.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included};

use super::pdu::{LimitError, Operation, Request, Table};
use super::register::Register;
use crate::value::Value;

/// Unit, table and address: where a register begins.
type Place = (u8, Table, u16);

fn place(register: &Register) -> Place {
    (register.unit(), register.table(), register.address())
}

/// A register of a plan, and its index in the list that was planned.
pub type Member = (usize, Register);

/// What one request reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The unit to ask.
    pub unit: u8,
    table: Table,
    address: u16,
    count: u16,
    /// What is wanted of it, in the order of addresses.
    members: Vec<Member>,
}

impl Block {
    fn of(member: Member) -> Self {
        let (_, register) = &member;
        Self {
            unit: register.unit(),
            table: register.table(),
            address: register.address(),
            count: register.count(),
            members: vec![member],
        }
    }

    /// Widen it by a member, which follows the others in the order of addresses.
    fn add(&mut self, member: Member) {
        let end = self.end().max(member.1.end());
        self.count = u16::try_from(end - u32::from(self.address)).unwrap_or(u16::MAX);
        self.members.push(member);
    }

    /// One past the last address.
    fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    /// The block that reads these members of one block.
    fn spanning(members: &[Member]) -> Option<Self> {
        let (first, rest) = members.split_first()?;
        let mut block = Self::of(*first);
        for member in rest {
            block.add(*member);
        }
        Some(block)
    }

    /// The request that reads it.
    ///
    /// # Errors
    /// Never for a block of a plan.
    pub fn request(&self) -> Result<Request, LimitError> {
        let (table, count) = (self.table, self.count);
        Request::new(self.address, Operation::Read { table, count })
    }

    /// What is wanted of it, in the order of addresses.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The values of its members in the elements that its request has read; None for what is no value.
    pub fn decode(&self, words: &[u16]) -> impl Iterator<Item = Option<Value>> {
        self.members.iter().map(|(_, register)| {
            let start = usize::from(register.address() - self.address);
            register.decode(words.get(start..start + usize::from(register.count()))?)
        })
    }

    /// Two blocks that read the same with less in between; None if every member is all of the block.
    #[must_use]
    pub fn halves(&self) -> Option<[Self; 2]> {
        if self
            .members
            .iter()
            .all(|(_, register)| register.count() == self.count)
        {
            return None;
        }
        let (left, right) = self.members.split_at_checked(self.members.len() / 2)?;
        Some([Self::spanning(left)?, Self::spanning(right)?])
    }
}

/// Plans reads, and remembers which neighbours are not to be read together.
#[derive(Clone, Debug, Default)]
pub struct Planner {
    max_gap: u16,
    /// Places that are not to be read together with their predecessors.
    cuts: BTreeSet<Place>,
}

impl Planner {
    /// A planner that reads up to `max_gap` unwanted registers in a row for the sake of one request less; in tables of
    /// bits it is sixteen times as many, which is the same number of bytes.
    #[must_use]
    pub fn new(max_gap: u16) -> Self {
        Self {
            max_gap,
            cuts: BTreeSet::new(),
        }
    }

    /// Never again read the beginning of this block together with what lies before it.
    pub fn cut_before(&mut self, block: &Block) {
        self.cuts.insert((block.unit, block.table, block.address));
    }

    /// Never again read this block together with anything else.
    pub fn cut_around(&mut self, block: &Block) {
        self.cut_before(block);
        if let Some(end) = block.address.checked_add(block.count) {
            self.cuts.insert((block.unit, block.table, end));
        }
    }

    /// Plan the reading of these registers.
    ///
    /// Closing a block at the first register that does not fit is optimal: the next block begins at that register, the
    /// leftmost one that is left, and reaches as far as any block could that reads it.
    #[must_use]
    pub fn plan(&self, registers: &[Register]) -> Vec<Block> {
        let mut members: Vec<Member> = registers.iter().copied().enumerate().collect();
        members.sort_by_key(|(index, register)| (place(register), register.count(), *index));
        let mut blocks: Vec<Block> = Vec::new();
        for member in members {
            match blocks.last_mut() {
                Some(block) if self.may_join(block, &member.1) => block.add(member),
                _ => blocks.push(Block::of(member)),
            }
        }
        blocks
    }

    /// Whether a block may be widened by the register that follows its last member.
    fn may_join(&self, block: &Block, next: &Register) -> bool {
        let Some((_, last)) = block.members.last() else {
            return false;
        };
        let gap = u32::from(next.address()).saturating_sub(block.end());
        let allowed = u32::from(self.max_gap) * if block.table.holds_bits() { 16 } else { 1 };
        let count = next
            .end()
            .max(block.end())
            .saturating_sub(u32::from(block.address));
        (block.unit, block.table) == (next.unit(), next.table())
            && gap <= allowed
            && count <= u32::from(block.table.max_read())
            && !self.is_cut_between(last, next)
    }

    fn is_cut_between(&self, last: &Register, next: &Register) -> bool {
        let between = (Excluded(place(last)), Included(place(next)));
        self.cuts.range(between).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;
    use proptest::prelude::*;

    fn registers(names: &[&str]) -> Vec<Register> {
        names
            .iter()
            .map(|name| Register::parse(name).unwrap())
            .collect()
    }

    fn planner(max_gap: u16, cuts: &[u16]) -> Planner {
        let cuts = cuts
            .iter()
            .map(|&address| (1, Table::HoldingRegisters, address));
        Planner {
            max_gap,
            cuts: cuts.collect(),
        }
    }

    fn spans(blocks: &[Block]) -> Vec<(u16, u16)> {
        blocks
            .iter()
            .map(|block| (block.address, block.count))
            .collect()
    }

    fn indices(block: &Block) -> Vec<usize> {
        block.members().iter().map(|(index, _)| *index).collect()
    }

    #[test]
    fn registers_within_the_gap_are_read_together_and_others_are_not() {
        let wanted = registers(&["W1r20", "f1r0", "W1r10"]);
        assert_eq!(spans(&planner(8, &[]).plan(&wanted)), [(0, 11), (20, 1)]);
        assert_eq!(indices(&planner(9, &[]).plan(&wanted)[0]), [1, 2, 0]);
        assert_eq!(planner(0, &[]).plan(&wanted).len(), 3);
    }

    #[test]
    fn units_and_tables_are_asked_separately() {
        let wanted = registers(&["W2r0", "W1i1", "W1r1", "B1f1", "B1d1"]);
        let asked: Vec<_> = planner(8, &[])
            .plan(&wanted)
            .iter()
            .map(|block| (block.unit, block.request().unwrap().function()))
            .collect();
        assert_eq!(asked, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 3)]);
    }

    #[test]
    fn a_request_is_filled_up_to_its_limit() {
        let parse = |name: String| Register::parse(&name).unwrap();
        let holding: Vec<_> = (0..126).map(|place| parse(format!("W1r{place}"))).collect();
        assert_eq!(spans(&planner(8, &[]).plan(&holding)), [(0, 125), (125, 1)]);
        let coils: Vec<_> = (0..2001)
            .map(|place| parse(format!("B1f{place}")))
            .collect();
        assert_eq!(spans(&planner(0, &[]).plan(&coils)), [(0, 2000), (2000, 1)]);
    }

    #[test]
    fn a_gap_between_bits_costs_as_much_as_one_between_registers() {
        let coils = registers(&["B1f0", "B1f129"]);
        assert_eq!(spans(&planner(8, &[]).plan(&coils)), [(0, 130)]);
        assert_eq!(planner(7, &[]).plan(&coils).len(), 2);
    }

    #[test]
    fn no_block_spans_a_cut() {
        let wanted = registers(&["W1r4", "W1r5", "W1r8"]);
        assert_eq!(spans(&planner(8, &[5]).plan(&wanted)), [(4, 1), (5, 4)]);
        assert_eq!(spans(&planner(8, &[7]).plan(&wanted)), [(4, 2), (8, 1)]);
        assert_eq!(spans(&planner(8, &[4, 9]).plan(&wanted)), [(4, 5)]);
    }

    #[test]
    fn a_block_is_cut_from_its_neighbours() {
        let mut planner = planner(8, &[]);
        let alone = planner.plan(&registers(&["f1r6"]));
        planner.cut_around(&alone[0]);
        let wanted = registers(&["W1r5", "f1r6", "W1r8", "W1r9"]);
        assert_eq!(spans(&planner.plan(&wanted)), [(5, 1), (6, 2), (8, 2)]);
        let last = planner.plan(&registers(&["W1r65535"]));
        planner.cut_around(&last[0]);
        let wanted = registers(&["W1r65534", "W1r65535"]);
        assert_eq!(spans(&planner.plan(&wanted)), [(65534, 1), (65535, 1)]);
        let pair = planner.plan(&registers(&["W1r20", "W1r21"]));
        planner.cut_before(&pair[0].halves().unwrap()[1]);
        let wanted = registers(&["W1r20", "W1r21", "W1r22"]);
        assert_eq!(spans(&planner.plan(&wanted)), [(20, 1), (21, 2)]);
    }

    #[test]
    fn a_block_is_halved_until_its_members_are_all_of_it() {
        let blocks = planner(8, &[]).plan(&registers(&["W1r0", "f1r2", "w1r2", "W1r9"]));
        let halves = blocks[0].halves().unwrap();
        assert_eq!(spans(&halves), [(0, 3), (2, 8)]);
        assert_eq!(
            (indices(&halves[0]), indices(&halves[1])),
            (vec![0, 2], vec![1, 3])
        );
        let same = planner(8, &[]).plan(&registers(&["W1r0", "w1r0"]));
        assert_eq!(same[0].halves(), None);
    }

    #[test]
    fn the_values_of_a_block_are_those_of_its_members() {
        let blocks = planner(8, &[]).plan(&registers(&["w1r3", "f1r0"]));
        let values = |words: &[u16]| blocks[0].decode(words).collect::<Vec<_>>();
        let float = Some(Value::Float(1.5));
        assert_eq!(
            values(&[0x3FC0, 0, 9, 0xFFFF]),
            [float.clone(), Some(Value::Int(-1))]
        );
        assert_eq!(values(&[0x7FC0, 0, 9, 1]), [None, Some(Value::Int(1))]);
        assert_eq!(values(&[0x3FC0, 0, 9]), [float, None]);
    }

    fn wanted() -> impl Strategy<Value = Vec<Register>> {
        let name = (
            prop::sample::select(vec!["Wr", "fr", "dr", "Bf"]),
            1..3_u8,
            prop_oneof![0..400_u16, 65300..65500_u16],
        );
        let register = name.prop_map(|(kind_and_table, unit, address)| {
            let (kind, table) = kind_and_table.split_at(1);
            Register::parse(&format!("{kind}{unit}{table}{address}")).unwrap()
        });
        prop::collection::vec(register, 0..40)
    }

    fn any_planner() -> impl Strategy<Value = Planner> {
        (0..20_u16, prop::collection::vec(0..400_u16, 0..6))
            .prop_map(|(max_gap, cuts)| planner(max_gap, &cuts))
    }

    fn in_order(registers: &[Register]) -> Vec<Register> {
        let mut sorted = registers.to_vec();
        sorted.sort_by_key(|register| (place(register), register.count()));
        sorted
    }

    /// Whether the rules permit one request for these registers, which are in the order of their addresses.
    fn may_be_one_block(planner: &Planner, registers: &[Register]) -> bool {
        let first = &registers[0];
        let mut end = first.end();
        for pair in registers.windows(2) {
            let gap = u32::from(planner.max_gap) * if first.table().holds_bits() { 16 } else { 1 };
            let cut = planner
                .cuts
                .iter()
                .any(|cut| place(&pair[0]) < *cut && *cut <= place(&pair[1]));
            let other = (pair[1].unit(), pair[1].table()) != (first.unit(), first.table());
            if cut || other || u32::from(pair[1].address()) > end + gap {
                return false;
            }
            end = end.max(pair[1].end());
        }
        end - u32::from(first.address()) <= u32::from(first.table().max_read())
    }

    proptest! {
        #[test]
        fn every_register_is_read_once_and_no_rule_is_broken(
            wanted in wanted(), planner in any_planner(),
        ) {
            let blocks = planner.plan(&wanted);
            let mut read: Vec<usize> = blocks.iter().flat_map(indices).collect();
            read.sort_unstable();
            prop_assert_eq!(read, (0..wanted.len()).collect::<Vec<_>>());
            for block in &blocks {
                let request = block.request().unwrap();
                let members: Vec<Register> =
                    block.members().iter().map(|&(index, _)| wanted[index]).collect();
                prop_assert!(may_be_one_block(&planner, &members));
                let start = members.iter().map(Register::address).min();
                let end = members.iter().map(Register::end).max();
                prop_assert_eq!(Some(request.address()), start);
                prop_assert_eq!(
                    Some(u32::from(request.address()) + u32::from(request.count())), end
                );
                prop_assert!(members.iter().all(|member| member.unit() == block.unit));
            }
        }

        #[test]
        fn there_is_no_plan_with_fewer_blocks(wanted in wanted(), planner in any_planner()) {
            let sorted = in_order(&wanted);
            let mut fewest = vec![0; sorted.len() + 1];
            for end in 1..=sorted.len() {
                fewest[end] = (0..end)
                    .filter(|&start| may_be_one_block(&planner, &sorted[start..end]))
                    .map(|start| fewest[start] + 1)
                    .min()
                    .unwrap();
            }
            prop_assert_eq!(planner.plan(&wanted).len(), fewest[sorted.len()]);
        }

        #[test]
        fn the_order_of_the_registers_makes_no_difference(
            lists in wanted().prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
            planner in any_planner(),
        ) {
            let (one, other) = lists;
            prop_assert_eq!(spans(&planner.plan(&one)), spans(&planner.plan(&other)));
        }
    }
}
