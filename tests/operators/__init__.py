"""Every operator in small networks: the freedom that brute force finds beside the freedom that discovery claims."""
