"""Funding: who pays what for each post, year by year, and what is missing.

Owns   funders, plans (the budget of a post for a year) with their contributions, agreements; its own copy of posts.
Says   plan.balanced, plan.gapped; contribution.requested, .granted, .refused, .agreed; agreement.signed.
       (agreement.expiring and .ended, instalments, financial reports and post.at_risk come with the money issue.)
Hears  posts (partners); assignments and closings (referrals), for the cost per situation.
"""
