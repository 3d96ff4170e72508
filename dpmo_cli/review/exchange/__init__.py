"""Round trips with annotation tools: tiles and shapes out, what a team made of them back in."""
