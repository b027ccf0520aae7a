//! Few requests for many registers.
//!
//! Registers that lie close together are read in one request, since a request costs far more than a register: a round
//! trip, and on a serial line behind a gateway about eight bytes besides the data.
//!
//! Invariants of a [`plan`]: every item lies within exactly one block; a block is within the limit of one request, has
//! no gap wider than allowed, and spans no cut; there are as few blocks as these rules permit; the order in which the
//! items are given makes no difference to the blocks.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Included};

use super::pdu::{LimitError, Operation, Request, Table};

/// Registers that are wanted together, as the two words of a float are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    unit: u8,
    table: Table,
    address: u16,
    count: u16,
}

impl Item {
    /// `count` elements of a unit's table from `address` on.
    ///
    /// # Errors
    /// No request can read them.
    pub fn new(unit: u8, table: Table, address: u16, count: u16) -> Result<Self, LimitError> {
        Request::new(address, Operation::Read { table, count })?;
        Ok(Self {
            unit,
            table,
            address,
            count,
        })
    }

    /// One past the last address.
    fn end(&self) -> u32 {
        u32::from(self.address) + u32::from(self.count)
    }

    fn place(&self) -> Cut {
        Cut {
            unit: self.unit,
            table: self.table,
            address: self.address,
        }
    }
}

/// An address that no block may span: its predecessor and itself are not read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cut {
    /// The unit.
    pub unit: u8,
    /// The table.
    pub table: Table,
    /// The first address behind the cut.
    pub address: u16,
}

/// One request of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The unit to ask.
    pub unit: u8,
    /// The table to read.
    pub table: Table,
    /// The first address.
    pub address: u16,
    /// How many elements.
    pub count: u16,
    /// Which items it reads: their places in the list that was planned, in the order of their addresses.
    pub items: Vec<usize>,
}

/// Plan the reading of these items. Up to `max_gap` unwanted registers in a row are read for the sake of one request
/// less; in tables of bits it is sixteen times as many, which is the same number of bytes.
#[must_use]
pub fn plan(items: &[Item], max_gap: u16, cuts: &BTreeSet<Cut>) -> Vec<Block> {
    let mut order: Vec<(usize, &Item)> = items.iter().enumerate().collect();
    order.sort_by_key(|&(index, item)| (item, index));
    let mut blocks: Vec<Block> = Vec::new();
    let mut last: Option<Cut> = None;
    for (index, item) in order {
        let joined = match (blocks.last_mut(), last) {
            (Some(block), Some(last)) => join(block, last, item, max_gap, cuts),
            _ => false,
        };
        if !joined {
            blocks.push(Block {
                unit: item.unit,
                table: item.table,
                address: item.address,
                count: item.count,
                items: Vec::new(),
            });
        }
        if let Some(block) = blocks.last_mut() {
            block.items.push(index);
        }
        last = Some(item.place());
    }
    blocks
}

/// Widen the block by the item, unless a rule forbids it. `last` is where the block's last item begins.
///
/// Closing a block at the first item that does not fit is optimal: the next block begins at that item, the leftmost
/// one that is left, and reaches as far as any block could that reads it.
fn join(block: &mut Block, last: Cut, item: &Item, max_gap: u16, cuts: &BTreeSet<Cut>) -> bool {
    let place = item.place();
    if (block.unit, block.table) != (item.unit, item.table) {
        return false;
    }
    let block_end = u32::from(block.address) + u32::from(block.count);
    let end = block_end.max(item.end());
    let allowed = u32::from(max_gap) * if item.table.holds_bits() { 16 } else { 1 };
    let gap = u32::from(item.address).saturating_sub(block_end);
    let cut = cuts
        .range((Excluded(last), Included(place)))
        .next()
        .is_some();
    let count = u16::try_from(end - u32::from(block.address)).ok();
    match count.filter(|count| *count <= item.table.max_read()) {
        Some(count) if gap <= allowed && !cut => {
            block.count = count;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn registers(address: u16, count: u16) -> Item {
        Item::new(1, Table::HoldingRegisters, address, count).unwrap()
    }

    fn spans(blocks: &[Block]) -> Vec<(u16, u16)> {
        blocks
            .iter()
            .map(|block| (block.address, block.count))
            .collect()
    }

    fn cut(address: u16) -> Cut {
        Cut {
            unit: 1,
            table: Table::HoldingRegisters,
            address,
        }
    }

    #[test]
    fn registers_within_the_gap_are_read_together_and_others_are_not() {
        let items = [registers(20, 1), registers(0, 2), registers(10, 1)];
        assert_eq!(
            spans(&plan(&items, 8, &BTreeSet::new())),
            [(0, 11), (20, 1)]
        );
        assert_eq!(plan(&items, 9, &BTreeSet::new())[0].items, [1, 2, 0]);
        assert_eq!(plan(&items, 0, &BTreeSet::new()).len(), 3);
    }

    #[test]
    fn units_and_tables_are_asked_separately() {
        let items = [
            Item::new(2, Table::HoldingRegisters, 0, 1).unwrap(),
            Item::new(1, Table::InputRegisters, 1, 1).unwrap(),
            Item::new(1, Table::HoldingRegisters, 1, 1).unwrap(),
        ];
        let asked: Vec<_> = plan(&items, 8, &BTreeSet::new())
            .iter()
            .map(|block| (block.unit, block.table))
            .collect();
        assert_eq!(
            asked,
            [
                (1, Table::HoldingRegisters),
                (1, Table::InputRegisters),
                (2, Table::HoldingRegisters)
            ]
        );
    }

    #[test]
    fn a_request_is_filled_up_to_its_limit() {
        let items: Vec<_> = (0..126).map(|address| registers(address, 1)).collect();
        assert_eq!(
            spans(&plan(&items, 8, &BTreeSet::new())),
            [(0, 125), (125, 1)]
        );
        let coils: Vec<_> = (0..2001)
            .map(|address| Item::new(1, Table::Coils, address, 1).unwrap())
            .collect();
        assert_eq!(
            spans(&plan(&coils, 0, &BTreeSet::new())),
            [(0, 2000), (2000, 1)]
        );
    }

    #[test]
    fn a_gap_between_bits_costs_as_much_as_one_between_registers() {
        let coils = [0, 129].map(|address| Item::new(1, Table::Coils, address, 1).unwrap());
        assert_eq!(spans(&plan(&coils, 8, &BTreeSet::new())), [(0, 130)]);
        assert_eq!(plan(&coils, 7, &BTreeSet::new()).len(), 2);
    }

    #[test]
    fn no_block_spans_a_cut() {
        let items = [registers(4, 1), registers(5, 1), registers(8, 1)];
        assert_eq!(
            spans(&plan(&items, 8, &BTreeSet::from([cut(5)]))),
            [(4, 1), (5, 4)]
        );
        assert_eq!(
            spans(&plan(&items, 8, &BTreeSet::from([cut(7)]))),
            [(4, 2), (8, 1)]
        );
        assert_eq!(
            spans(&plan(&items, 8, &BTreeSet::from([cut(4), cut(9)]))),
            [(4, 5)]
        );
    }

    #[test]
    fn what_no_request_can_read_is_no_item() {
        assert!(Item::new(1, Table::HoldingRegisters, 0, 126).is_err());
        assert!(Item::new(1, Table::HoldingRegisters, 0, 0).is_err());
        assert!(Item::new(1, Table::InputRegisters, 65535, 2).is_err());
        assert!(Item::new(1, Table::InputRegisters, 65535, 1).is_ok());
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        let item = (
            1..3_u8,
            prop::sample::select(vec![Table::Coils, Table::HoldingRegisters]),
            prop_oneof![0..400_u16, 65000..65400_u16],
            1..5_u16,
        );
        prop::collection::vec(
            item.prop_map(|(unit, table, address, count)| {
                Item::new(unit, table, address, count).unwrap()
            }),
            0..40,
        )
    }

    fn cuts() -> impl Strategy<Value = BTreeSet<Cut>> {
        prop::collection::btree_set((0..400_u16).prop_map(cut), 0..6)
    }

    /// Whether one request may read these items, which are in the order of their addresses.
    fn may_be_one_block(items: &[Item], max_gap: u16, cuts: &BTreeSet<Cut>) -> bool {
        let alone = BTreeSet::new();
        let spanned = items.windows(2).any(|pair| {
            cuts.iter()
                .any(|cut| pair[0].place() < *cut && *cut <= pair[1].place())
        });
        plan(items, max_gap, &alone).len() == 1 && !spanned
    }

    proptest! {
        #[test]
        fn every_item_is_read_once_and_no_rule_is_broken(
            items in items(), max_gap in 0..20_u16, cuts in cuts(),
        ) {
            let blocks = plan(&items, max_gap, &cuts);
            let mut read: Vec<usize> =
                blocks.iter().flat_map(|block| block.items.clone()).collect();
            read.sort_unstable();
            prop_assert_eq!(read, (0..items.len()).collect::<Vec<_>>());
            for block in &blocks {
                let end = u32::from(block.address) + u32::from(block.count);
                prop_assert!(block.count <= block.table.max_read() && end <= 0x1_0000);
                let gap = u32::from(max_gap) * if block.table.holds_bits() { 16 } else { 1 };
                let mut covered = u32::from(block.address);
                for item in block.items.iter().map(|&index| items[index]) {
                    prop_assert_eq!((item.unit, item.table), (block.unit, block.table));
                    prop_assert!(item.address >= block.address && item.end() <= end);
                    prop_assert!(u32::from(item.address) <= covered + gap);
                    covered = covered.max(item.end());
                }
                prop_assert_eq!(covered, end);
            }
        }

        #[test]
        fn there_is_no_plan_with_fewer_blocks(
            items in items(), max_gap in 0..20_u16, cuts in cuts(),
        ) {
            let mut sorted = items.clone();
            sorted.sort_unstable();
            let mut fewest = vec![0; sorted.len() + 1];
            for end in 1..=sorted.len() {
                fewest[end] = (0..end)
                    .filter(|&start| may_be_one_block(&sorted[start..end], max_gap, &cuts))
                    .map(|start| fewest[start] + 1)
                    .min()
                    .unwrap();
            }
            prop_assert_eq!(plan(&items, max_gap, &cuts).len(), fewest[sorted.len()]);
        }

        #[test]
        fn the_order_of_the_items_makes_no_difference(
            items in items().prop_flat_map(|items| (Just(items.clone()), Just(items).prop_shuffle())),
            cuts in cuts(),
        ) {
            let (one, other) = items;
            prop_assert_eq!(spans(&plan(&one, 8, &cuts)), spans(&plan(&other, 8, &cuts)));
        }
    }
}
