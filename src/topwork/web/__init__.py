"""What pages and services over HTTP share: the names they answer to, refusals, listening."""
