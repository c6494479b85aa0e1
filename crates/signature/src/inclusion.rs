//! A log's proof that it has an entry: hashes up to the root of its tree (RFC 9162, 2.1.3.2), and the root as the log signed it
//! (a checkpoint: a signed note of <https://github.com/C2SP/C2SP/blob/main/signed-note.md>).

use crate::log::Log;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{Context, SHA256};

/// No tree is higher: sizes have 64 bits.
const MOST_HASHES: usize = 64;
const HASH: usize = 32;
/// Who signs a checkpoint besides the log, its witnesses, are a handful.
const MOST_SIGNERS: usize = 32;

/// A proof, as it was found.
#[derive(Debug)]
pub(crate) struct Proof<'a> {
    pub(crate) index: u64,
    pub(crate) size: u64,
    pub(crate) root: &'a [u8],
    pub(crate) hashes: &'a [Vec<u8>],
    pub(crate) checkpoint: &'a str,
}

impl Proof<'_> {
    /// Whether an entry is in a tree that one of the logs signed.
    pub(crate) fn proves(&self, entry: &[u8], logs: &[&Log]) -> bool {
        self.leads_to_the_root(entry) && self.is_signed(logs)
    }

    fn leads_to_the_root(&self, entry: &[u8]) -> bool {
        if self.index >= self.size || self.hashes.len() > MOST_HASHES {
            return false;
        }
        if self.hashes.iter().any(|hash| hash.len() != HASH) {
            return false;
        }
        let (mut node, mut last) = (self.index, self.size - 1);
        let mut hash = hashed(&[&[0], entry]);
        for beside in self.hashes {
            if last == 0 {
                return false;
            }
            if node & 1 == 1 || node == last {
                hash = hashed(&[&[1], beside, &hash]);
                while node & 1 == 0 && node != 0 {
                    (node, last) = (node >> 1, last >> 1);
                }
            } else {
                hash = hashed(&[&[1], &hash, beside]);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        last == 0 && hash == self.root
    }

    fn is_signed(&self, logs: &[&Log]) -> bool {
        let Some((text, signers)) = self.checkpoint.split_once("\n\n") else { return false };
        // Origin, size, root; what may follow says nothing to us.
        let mut lines = text.split('\n').skip(1);
        let is_this_size = lines.next().is_some_and(|line| line == self.size.to_string());
        let is_this_root = lines.next().and_then(|line| STANDARD.decode(line).ok()).is_some_and(|it| it == self.root);
        if !is_this_size || !is_this_root {
            return false;
        }
        let message = format!("{text}\n");
        let mut signatures = signers.lines().take(MOST_SIGNERS).filter_map(|line| {
            let (_name, signature) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
            // Four bytes hint at the key.
            Some(STANDARD.decode(signature).ok()?.get(4..)?.to_vec())
        });
        signatures.any(|signature| logs.iter().any(|log| log.key.verifies(message.as_bytes(), &signature)))
    }
}

fn hashed(parts: &[&[u8]]) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root of a tree over these leaves, and the hashes beside the way to one of them (RFC 9162, 2.1.1 and 2.1.3.1).
    fn tree(leaves: &[Vec<u8>], index: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
        if let [leaf] = leaves {
            return (hashed(&[&[0], leaf]), Vec::new());
        }
        let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
        let (in_left, way) = (index < left.len(), index.saturating_sub(left.len()));
        let (mut left, mut right) = (tree(left, if in_left { index } else { 0 }), tree(right, way));
        let root = hashed(&[&[1], &left.0, &right.0]);
        match in_left {
            true => left.1.push(right.0),
            false => right.1.push(left.0),
        }
        (root, if in_left { left.1 } else { right.1 })
    }

    #[test]
    fn every_leaf_of_trees_of_many_sizes() {
        for size in 1..20_usize {
            let leaves: Vec<Vec<u8>> = (0..size).map(|number| vec![number as u8; 3]).collect();
            for index in 0..size {
                let (root, hashes) = tree(&leaves, index);
                let proof = |index: usize, size: usize, hashes: &[Vec<u8>], entry: &[u8]| {
                    let (index, size) = (index as u64, size as u64);
                    Proof { index, size, root: &root, hashes, checkpoint: "" }.leads_to_the_root(entry)
                };
                assert!(proof(index, size, &hashes, &leaves[index]), "{index} of {size}");
                assert!(!proof(index, size, &hashes, b"other"), "{index} of {size}");
                assert!(!proof(size, size, &hashes, &leaves[index]), "{index} of {size}");
                assert!(size == 1 || !proof((index + 1) % size, size, &hashes, &leaves[index]), "{index} of {size}");
                assert!(!proof(index, size, &[&hashes[..], std::slice::from_ref(&root)].concat(), &leaves[index]));
                if let Some((_, fewer)) = hashes.split_last() {
                    assert!(!proof(index, size, fewer, &leaves[index]), "{index} of {size}");
                }
            }
        }
    }
}
