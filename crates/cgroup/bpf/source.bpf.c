// SPDX-License-Identifier: Apache-2.0 OR MIT
//
// Answers leave from the address that was asked, whatever program sends them.
//
// Theory of operation. When a datagram is about to enter a socket that is bound to no address, `learn` notes the
// local address that it was sent to, under its peer. When the program sends to that peer without a source of its
// own choice, `sendmsg4` or `sendmsg6` puts the noted address where a control message would have put it
// (udp_sendmsg, udpv6_sendmsg). connect() on such a socket asks the routes for the source, once; `connect4` and
// `connect6` then set a mark, for which user space keeps a rule, to a table with that address as `src`.
//
// Only what stands in `local`, this host's own addresses as user space keeps them, is ever noted or used: a datagram
// to a group, to everybody or to a foreign address, whoever sent it, leaves the choice to the kernel. Addresses are
// 16 bytes, those of IPv4 mapped (RFC 4291, 2.5.5.2): a dual-stack socket has both.
#include <linux/bpf.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#define GO_ON 1 // what every program answers: nothing is ever refused
#define ETH_P_IP 0x0800 // linux/if_ether.h
#define SOL_SOCKET 1 // asm-generic/socket.h
#define SO_MARK 36
#define MAPPED bpf_htonl(0xffff)
#define EXTENSIONS 6 // headers that are skipped; a datagram with more is not learned from

struct address {
	__u32 word[4];
};

struct flow {
	__u64 scope; // cookie of the network namespace
	struct address peer;
	__be16 peer_port;
	__be16 local_port;
	__u32 device; // that the socket is bound to
};

struct asked {
	struct address local; // all zero: the kernel shall choose
	__u32 link; // the interface, where the peer's address is link-local and may be there on several
	__u32 generation; // of `local`, when this was found there
};

struct local_key {
	__u32 prefix; // bits of what follows
	__u32 scope[2];
	struct address address;
};

// What user space writes: `GENERATION` goes up when `local` has lost an address. The rest is there to be listed.
enum state { GENERATION, SLOT, INSTANCE, CGROUP, LEAVE, OWNER, STATES };

enum counter { CORRECTED, CHOSEN, UNKNOWN, STALE, LEARNED, COUNTERS };

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow);
	__type(value, struct asked);
	__uint(max_entries, 1); // set when it is loaded
} udpkit_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__type(key, struct local_key);
	__type(value, __u32); // the mark, or 0
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
} udpkit_local SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, STATES);
} udpkit_state SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, COUNTERS);
} udpkit_counts SEC(".maps");

// Whether every hook may ask for the namespace's cookie (Linux 6.15). Else the socket's own takes its place, and an
// answer that leaves by another socket of the same port is not known.
volatile const __u32 NAMESPACES = 1;
// The mark without its last byte.
volatile const __u32 MARK = 0;

static __always_inline __u64 scope_of(void *context)
{
	return NAMESPACES ? bpf_get_netns_cookie(context) : bpf_get_socket_cookie(context);
}

static __always_inline void count(__u32 which)
{
	__u64 *counter = bpf_map_lookup_elem(&udpkit_counts, &which);

	if (counter)
		(*counter)++;
}

static __always_inline struct address mapped(__u32 ip4)
{
	return (struct address){ { 0, 0, MAPPED, ip4 } };
}

static __always_inline int same(const struct address *one, const struct address *other)
{
	return one->word[3] == other->word[3] && one->word[2] == other->word[2] && one->word[1] == other->word[1] &&
	       one->word[0] == other->word[0];
}

static __always_inline int is_nothing(const struct address *address)
{
	return !(address->word[0] | address->word[1] | address->word[2] | address->word[3]);
}

static __always_inline int is_mapped(const struct address *address)
{
	return !(address->word[0] | address->word[1]) && address->word[2] == MAPPED;
}

static __always_inline int is_link_local(const struct address *address)
{
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

static __always_inline __u32 generation(void)
{
	__u32 which = GENERATION;
	__u64 *now = bpf_map_lookup_elem(&udpkit_state, &which);

	return now ? *now : 0;
}

// The mark of an address of this host; NULL if it is none.
static __always_inline __u32 *local(__u64 scope, const struct address *address)
{
	struct local_key key = { .prefix = 64 + 128, .address = *address };

	if (NAMESPACES) {
		key.scope[0] = scope;
		key.scope[1] = scope >> 32;
	}
	return bpf_map_lookup_elem(&udpkit_local, &key);
}

static __always_inline int learn(void *context, struct flow *flow, const struct address *to, __u32 interface)
{
	__u32 link = is_link_local(&flow->peer) ? interface : 0;
	__u32 now = generation();
	struct asked *known;
	struct asked asked = { .link = link, .generation = now };

	flow->scope = scope_of(context);
	known = bpf_map_lookup_elem(&udpkit_flows, flow);
	if (known && known->generation == now && known->link == link && same(&known->local, to))
		return GO_ON;
	// Two neighbors that have chosen the same address, on different links: which one is answered cannot be told.
	if ((!known || known->link == link) && local(flow->scope, to))
		asked.local = *to;
	if (known && is_nothing(&known->local) && is_nothing(&asked.local))
		return GO_ON;
	if (!known) {
		if (is_nothing(&asked.local))
			return GO_ON;
		count(LEARNED);
	}
	bpf_map_update_elem(&udpkit_flows, flow, &asked, BPF_ANY);
	// Looked up once, it counts as in use. Else a full table would lose what is new before what is old
	// (bpf_lru_list.c), and that is just what is about to be answered.
	bpf_map_lookup_elem(&udpkit_flows, flow);
	return GO_ON;
}

SEC("cgroup_skb/ingress")
int udpkit_learn(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct bpf_sock *sk = skb->sk;
	struct flow flow = {};
	struct address to;

	// Nearly all of TCP and every connected socket end here, and then those that are bound to an address.
	if (!sk || sk->state != BPF_TCP_CLOSE || sk->src_ip4)
		return GO_ON;
	flow.device = sk->bound_dev_if;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr *ip = data;
		struct udphdr *udp;

		if ((void *)(ip + 1) > end || ip->protocol != IPPROTO_UDP)
			return GO_ON;
		udp = data + ip->ihl * 4;
		if ((void *)(udp + 1) > end)
			return GO_ON;
		flow.peer = mapped(ip->saddr);
		flow.peer_port = udp->source;
		flow.local_port = udp->dest;
		to = mapped(ip->daddr);
	} else {
		struct ipv6hdr *ip = data;
		__u32 offset = sizeof(*ip);
		struct udphdr udp;
		__u8 header;

		if ((void *)(ip + 1) > end || sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3])
			return GO_ON;
		header = ip->nexthdr;
		__builtin_memcpy(&flow.peer, &ip->saddr, sizeof(to));
		__builtin_memcpy(&to, &ip->daddr, sizeof(to));
		// Such an answer would leave over IPv4, which has no address of IPv6 for a source.
		if (is_mapped(&flow.peer))
			return GO_ON;
		for (int i = 0; i < EXTENSIONS && header != IPPROTO_UDP; i++) {
			__u8 next[2]; // next header, length in units of 8 bytes without the first (RFC 8200, 4)

			if (header != IPPROTO_HOPOPTS && header != IPPROTO_ROUTING && header != IPPROTO_DSTOPTS &&
			    header != IPPROTO_FRAGMENT)
				return GO_ON;
			if (bpf_skb_load_bytes(skb, offset, next, sizeof(next)))
				return GO_ON;
			offset += header == IPPROTO_FRAGMENT ? 8 : 8 * (next[1] + 1);
			header = next[0];
		}
		if (header != IPPROTO_UDP || bpf_skb_load_bytes(skb, offset, &udp, sizeof(udp)))
			return GO_ON;
		flow.peer_port = udp.source;
		flow.local_port = udp.dest;
	}
	return learn(skb, &flow, &to, skb->ifindex);
}

// What is known of a peer to whom a socket is about to send, if that can still be a source.
static __always_inline int find(struct bpf_sock_addr *context, const struct address *peer, struct address *source,
				__u32 **mark)
{
	struct bpf_sock *sk = context->sk;
	struct flow flow = { .peer = *peer, .peer_port = context->user_port };
	struct asked *asked;

	if (!sk)
		return 0;
	flow.scope = scope_of(context);
	flow.local_port = bpf_htons(sk->src_port);
	flow.device = sk->bound_dev_if;
	asked = bpf_map_lookup_elem(&udpkit_flows, &flow);
	if (!asked || is_nothing(&asked->local)) {
		count(UNKNOWN);
		return 0;
	}
	*source = asked->local;
	if (!mark && asked->generation == generation())
		return 1;
	__u32 *found = local(flow.scope, source);

	if (!found) {
		count(STALE);
		return 0;
	}
	if (mark)
		*mark = found;
	return 1;
}

SEC("cgroup/sendmsg4")
int udpkit_sendmsg4(struct bpf_sock_addr *context)
{
	struct address peer = mapped(context->user_ip4), source;

	if (context->msg_src_ip4) {
		count(CHOSEN);
	} else if (find(context, &peer, &source, 0)) {
		context->msg_src_ip4 = source.word[3];
		count(CORRECTED);
	}
	return GO_ON;
}

SEC("cgroup/sendmsg6")
int udpkit_sendmsg6(struct bpf_sock_addr *context)
{
	struct address peer, source;

	if (context->msg_src_ip6[0] | context->msg_src_ip6[1] | context->msg_src_ip6[2] | context->msg_src_ip6[3]) {
		count(CHOSEN);
		return GO_ON;
	}
	peer.word[0] = context->user_ip6[0];
	peer.word[1] = context->user_ip6[1];
	peer.word[2] = context->user_ip6[2];
	peer.word[3] = context->user_ip6[3];
	if (find(context, &peer, &source, 0)) {
		context->msg_src_ip6[0] = source.word[0];
		context->msg_src_ip6[1] = source.word[1];
		context->msg_src_ip6[2] = source.word[2];
		context->msg_src_ip6[3] = source.word[3];
		count(CORRECTED);
	}
	return GO_ON;
}

// A mark that somebody else has set stays; ours, of an earlier connection, must not.
static __always_inline int connect(struct bpf_sock_addr *context, const struct address *peer)
{
	struct bpf_sock *sk = context->sk;
	struct address source;
	__u32 *found = 0, mark = 0;

	if (!sk || !sk->src_port || (sk->mark && (sk->mark & ~0xff) != MARK))
		return GO_ON;
	if (sk->src_ip4 || sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3]) {
		count(CHOSEN);
		return GO_ON;
	}
	if (find(context, peer, &source, &found) && found)
		mark = *found;
	if (mark != sk->mark && !bpf_setsockopt(context, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) && mark)
		count(CORRECTED);
	return GO_ON;
}

SEC("cgroup/connect4")
int udpkit_connect4(struct bpf_sock_addr *context)
{
	if (context->protocol != IPPROTO_UDP)
		return GO_ON;
	struct address peer = mapped(context->user_ip4);

	return connect(context, &peer);
}

SEC("cgroup/connect6")
int udpkit_connect6(struct bpf_sock_addr *context)
{
	struct address peer;

	if (context->protocol != IPPROTO_UDP)
		return GO_ON;
	peer.word[0] = context->user_ip6[0];
	peer.word[1] = context->user_ip6[1];
	peer.word[2] = context->user_ip6[2];
	peer.word[3] = context->user_ip6[3];
	return connect(context, &peer);
}

char LICENSE[] SEC("license") = "Dual MIT/GPL";
