"""What NAT does with new flows: the rules of iptables and nftables, and where they send a flow."""
