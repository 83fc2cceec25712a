"""A referral comes in: received with a receipt, alone or by the batch, recognised when the person is known, routed to a post."""
