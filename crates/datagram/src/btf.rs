//! Where the running kernel keeps what: its own type information (`Documentation/bpf/btf.rst`).

use std::collections::HashMap;

use crate::address::array;

/// Kinds of types that are looked into (`include/uapi/linux/btf.h`).
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNCTION_PROTOTYPE: u32 = 13;
    pub(super) const VARIABLE: u32 = 14;
    pub(super) const SECTION: u32 = 15;
    pub(super) const DECLARATION_TAG: u32 = 17;
    pub(super) const ENUM_64: u32 = 19;
    pub(super) const LAST: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
/// Anonymous members within anonymous members, at most.
const DEPTH: u32 = 8;

/// The structures and enumerations of a kernel, by name.
pub(crate) struct Btf<'a> {
    types: Vec<Type<'a>>,
    strings: &'a [u8],
    structures: HashMap<&'a [u8], usize>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    /// Whether members tell a bit field's width beside its place.
    flag: bool,
    /// Of a typedef and its like: the type that it stands for.
    target: usize,
    /// What follows the type: three words for each member, two for each enumerator.
    rest: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Reads `/sys/kernel/btf/vmlinux`. `None`: not type information that is understood.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let word = |at| array(bytes, at).map(u32::from_ne_bytes);
        if u16::from_ne_bytes(array(bytes, 0)?) != MAGIC {
            return None;
        }
        let body = bytes.get(word(4)? as usize..)?;
        let part = |at: usize| body.get(word(at)? as usize..)?.get(..word(at + 4)? as usize);
        let (mut left, strings) = (part(8)?, part(16)?);
        let mut types = vec![Type { name: 0, kind: 0, flag: false, target: 0, rest: &[] }];
        let mut structures = HashMap::new();
        while !left.is_empty() {
            let info = u32::from_ne_bytes(array(left, 4)?);
            let (kind, count) = ((info >> 24) & 0x1f, (info & 0xffff) as usize);
            let length = match kind {
                kind::INT | kind::VARIABLE | kind::DECLARATION_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::SECTION | kind::ENUM_64 => 12 * count,
                kind::ENUM | kind::FUNCTION_PROTOTYPE => 8 * count,
                ..=kind::LAST => 0,
                _ => return None,
            };
            let (rest, next) = left.get(12..)?.split_at_checked(length)?;
            let one = Type {
                name: u32::from_ne_bytes(array(left, 0)?),
                kind,
                flag: info >> 31 == 1,
                target: u32::from_ne_bytes(array(left, 8)?) as usize,
                rest,
            };
            if matches!(kind, kind::STRUCT | kind::ENUM) && one.name != 0 {
                structures.entry(string(strings, one.name)).or_insert(types.len());
            }
            types.push(one);
            left = next;
        }
        Some(Self { types, strings, structures })
    }

    /// Offset in bytes of a member, also of one of a structure without a name inside: `["net", "ns", "inum"]`
    /// is `inum` of the member `ns` of `struct net`.
    pub(crate) fn offset(&self, path: &[&str]) -> Option<i32> {
        let (structure, members) = path.split_first()?;
        let mut inside = *self.structures.get(structure.as_bytes())?;
        let mut bits = 0;
        for member in members {
            let (offset, of_type) = self.member(inside, member.as_bytes(), DEPTH)?;
            bits += offset;
            inside = of_type;
        }
        (bits % 8 == 0).then_some(i32::try_from(bits / 8).ok()?)
    }

    /// The names of an enumeration's values.
    pub(crate) fn names(&self, enumeration: &str) -> HashMap<u32, String> {
        let found = self.structures.get(enumeration.as_bytes()).map(|&id| self.types[id]);
        let Some(Type { kind: kind::ENUM, rest, .. }) = found else { return HashMap::new() };
        rest.chunks_exact(8)
            .filter_map(|pair| {
                let name = string(self.strings, u32::from_ne_bytes(array(pair, 0)?));
                Some((u32::from_ne_bytes(array(pair, 4)?), String::from_utf8_lossy(name).into_owned()))
            })
            .collect()
    }

    /// (offset in bits, type) of a member.
    fn member(&self, structure: usize, wanted: &[u8], depth: u32) -> Option<(u32, usize)> {
        let Type { kind, flag, target, rest, .. } = *self.types.get(structure)?;
        match kind {
            kind::STRUCT | kind::UNION => {}
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT => {
                return self.member(target, wanted, depth.checked_sub(1)?);
            }
            _ => return None,
        }
        rest.chunks_exact(12).find_map(|member| {
            let name = u32::from_ne_bytes(array(member, 0)?);
            let of_type = u32::from_ne_bytes(array(member, 4)?) as usize;
            let offset = u32::from_ne_bytes(array(member, 8)?) & if flag { 0x00ff_ffff } else { u32::MAX };
            if name != 0 {
                return (string(self.strings, name) == wanted).then_some((offset, of_type));
            }
            let (inner, of_type) = self.member(of_type, wanted, depth.checked_sub(1)?)?;
            Some((offset.checked_add(inner)?, of_type))
        })
    }
}

fn string(strings: &[u8], at: u32) -> &[u8] {
    let rest = strings.get(at as usize..).unwrap_or_default();
    rest.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_type_information_is_none_and_never_a_panic() {
        let kernel = std::fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
        assert!(Btf::read(&[]).is_none() && Btf::read(b"ELF").is_none());
        for cut in (0..kernel.len()).step_by(1 + kernel.len() / 50) {
            assert!(Btf::read(&kernel[..cut]).is_none(), "cut at {cut}");
        }
    }

    #[test]
    fn what_this_kernel_says_is_what_every_kernel_has() {
        let Ok(kernel) = std::fs::read("/sys/kernel/btf/vmlinux") else {
            eprintln!("skipped: this kernel has no type information");
            return;
        };
        let btf = Btf::read(&kernel).unwrap();
        assert_eq!(btf.offset(&["iphdr", "saddr"]), Some(12));
        assert_eq!(btf.offset(&["udphdr", "dest"]), Some(2));
        assert!(btf.offset(&["sk_buff", "network_header"]).is_some(), "within structures without names");
        assert!(btf.offset(&["net_device", "nd_net", "net"]).is_some(), "by way of a typedef");
        assert_eq!(btf.offset(&["sk_buff", "no_such"]), None);
        assert!(btf.names("skb_drop_reason").values().any(|name| name == "SKB_DROP_REASON_NETFILTER_DROP"));
    }
}
