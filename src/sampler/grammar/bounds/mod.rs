//! What a source may ask of its compiler: bounded before it is compiled.
//!
//! llguidance bounds the nesting of brackets, its lexer's states and the work
//! of a step, but not everything that a hostile source can make it do. It
//! follows definitions that name each other by recursion, 6 kB of stack for
//! each (measured on x86-64, optimised): the longest such chain is measured
//! here, with every bracket inside a definition counted as a definition of its
//! own. And a few constructions take it quadratic or exponential time: they
//! are counted in [`lark`] and [`schema`].

pub(super) mod lark;
pub(super) mod schema;

use crate::error::{Error, Result};

/// Longest chain: 3 MB of the compiler's stack of 16, the rest for unoptimised builds.
const CHAIN_MAX: usize = 512;

/// A definition: what it costs by itself, and the definitions that it names.
#[derive(Debug, PartialEq)]
pub(in crate::sampler::grammar) struct Node {
    pub(in crate::sampler::grammar) weight: usize,
    pub(in crate::sampler::grammar) uses: Vec<usize>,
}

/// Refuses definitions that form too long a chain.
pub(in crate::sampler::grammar) fn check(nodes: &[Node]) -> Result<()> {
    let chain = longest_chain(nodes);
    if chain > CHAIN_MAX {
        return Err(Error::Grammar(format!(
            "definitions that use each other reach a depth of {chain}, at most {CHAIN_MAX} is taken"
        )));
    }
    Ok(())
}

/// The heaviest chain of uses; definitions that use each other in a circle
/// count as if each were on it, which no chain can exceed.
fn longest_chain(nodes: &[Node]) -> usize {
    let circle = circles(nodes);
    // `circles` numbers a circle after all those it leads to.
    let mut weight = vec![0usize; nodes.len()];
    let mut below = vec![0usize; nodes.len()];
    let mut by_circle: Vec<usize> = (0..nodes.len()).collect();
    by_circle.sort_by_key(|&node| circle[node]);
    for &node in &by_circle {
        let own = circle[node];
        weight[own] = weight[own].saturating_add(nodes[node].weight);
        for &used in nodes[node].uses.iter().filter(|&&used| circle[used] != own) {
            below[own] = below[own].max(weight[circle[used]] + below[circle[used]]);
        }
    }
    (0..nodes.len()).map(|circle| weight[circle] + below[circle]).max().unwrap_or(0)
}

/// The circle that each definition belongs to (Tarjan's algorithm, without recursion).
fn circles(nodes: &[Node]) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let mut circle = vec![NEW; nodes.len()];
    let (mut index, mut low) = (vec![NEW; nodes.len()], vec![0; nodes.len()]);
    let (mut open, mut path, mut next, mut circle_len) = (Vec::new(), Vec::new(), 0, 0);
    for root in 0..nodes.len() {
        if index[root] != NEW {
            continue;
        }
        path.push((root, 0));
        while let Some(&mut (node, ref mut at)) = path.last_mut() {
            if *at == 0 {
                index[node] = next;
                low[node] = next;
                next += 1;
                open.push(node);
            }
            if let Some(&used) = nodes[node].uses.get(*at) {
                *at += 1;
                // The +1 also keeps a node from being opened twice: `at` is 0 only once.
                if index[used] == NEW {
                    path.push((used, 0));
                } else if circle[used] == NEW {
                    low[node] = low[node].min(index[used]);
                }
                continue;
            }
            path.pop();
            if let Some(&(parent, _)) = path.last() {
                low[parent] = low[parent].min(low[node]);
            }
            if low[node] == index[node] {
                while let Some(member) = open.pop() {
                    circle[member] = circle_len;
                    if member == node {
                        break;
                    }
                }
                circle_len += 1;
            }
        }
    }
    circle
}

/// Refuses a count above its bound.
fn at_most(what: &str, count: usize, most: usize) -> Result<()> {
    if count > most {
        return Err(Error::Grammar(format!("{count} {what}, at most {most} are taken")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_as_long_as_their_heaviest_walk() {
        let chain = |nodes: &[(usize, &[usize])]| {
            let nodes: Vec<Node> = nodes
                .iter()
                .map(|(weight, uses)| Node { weight: *weight, uses: uses.to_vec() })
                .collect();
            longest_chain(&nodes)
        };
        assert_eq!(chain(&[]), 0);
        assert_eq!(chain(&[(1, &[1, 2]), (2, &[]), (5, &[1])]), 8);
        // A circle of 0 and 1, which leads to 2 and to itself.
        assert_eq!(chain(&[(1, &[1]), (2, &[0, 2, 1]), (3, &[])]), 6);
        assert_eq!(chain(&[(1, &[]), (1, &[0]), (1, &[1]), (1, &[3, 2])]), 4);
    }
}
