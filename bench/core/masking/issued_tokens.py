"""Tokens that are known by themselves: patterns of the prefixes that issuers document, so that scanners find them."""

from __future__ import annotations

ISSUED: tuple[str, ...] = (
    # code hosts and package registries
    r"gh[opusr]_\w{16,}", r"github_pat_\w{20,}", r"gl(?:pat|dt|rt|rtr|ptt|cbt|ft|imt|agent|oas|soat|ffct)-[\w=-]{16,}",
    r"AT(?:ATT|CTT|BB)\w[\w=-]{16,}", r"npm_\w{20,}", r"pypi-[\w=-]{16,}", r"rubygems_\w{20,}", r"cio\w{32}\b",
    r"oy2[a-z0-9]{43}\b", r"dckr_(?:pat|oat)_[\w=-]{16,}", r"AKC[a-z]\w{10,}", r"cmVmd\w{20,}", r"sgp_\w{20,}",
    # models and experiments
    r"hf_\w{12,}", r"api_org_\w{16,}", r"sk-(?=[^\d\s]{0,64}\d)[\w=-]{16,}", r"(?:csk|xai|pplx|pa|sess)-\w{20,}",
    r"nvapi-[\w=-]{20,}", r"gsk_\w{20,}", r"r8_\w{20,}", r"fw_\w{20,}", r"tgp_v1_[\w-]{20,}", r"jina_\w{20,}",
    r"lsv2_[ps][tk]_\w{16,}", r"wandb_v1_\w{16,}", r"local-[0-9a-f]{40}\b", r"cpk_[\w.]{20,}", r"KGAT_\w{20,}",
    r"pcsk_\w{20,}",
    # clouds
    r"(?:AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ABIA|ACCA)[A-Z0-9]{12,}", r"AIza[\w-]{30,}", r"ya29\.[\w.-]{10,}",
    r"GOCSPX-[\w=-]{16,}", r"1//0[\w-]{20,}", r"\w{3}8Q~[\w.~-]{20,}", r"do[opr]_v1_[0-9a-f]{32,}",
    r"dapi[0-9a-f]{32}(?:-\d)?", r"LTAI\w{12,}", r"AKID\w{13,}", r"v1\.0-[\w-]{20,}", r"tskey-[\w-]{10,}",
    r"fm[12]_[\w=+/-]{20,}", r"fo1_[\w-]{20,}", r"pul-[0-9a-f]{40}", r"\w{14}\.atlasv1\.[\w=-]{20,}",
    r"hv[sbr]\.[\w-]{16,}", r"[sbr]\.[A-Za-z0-9]{24,}\b", r"pscale_(?:tkn|pw|oauth)_[\w.-]{16,}", r"sbp_\w{20,}",
    r"ops_eyJ[\w=-]{10,}", r"A3-[A-Z0-9]{6}-[A-Z0-9-]{20,}", r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.]{16,}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{20,}", r"nf[pcoub]_\w{20,}", r"mdb_sa_sk_[\w-]{16,}", r"rnd_\w{20,}",
    r"HRKU-[\w-]{20,}",
    # messages, payments, monitoring
    r"xox[a-z](?:\.xox[a-z])?-[\w.-]{8,}", r"xapp-[\w-]{10,}", r"xwfp-[\w-]{10,}", r"SG\.[\w-]{8,}\.[\w-]{8,}",
    r"key-[0-9a-f]{32}", r"(?:SK|AC)[0-9a-f]{32}", r"(?:[rs]k|pk)_(?:live|test|prod)_\w{8,}", r"whsec_[\w+/=]{16,}",
    r"sq0[a-z]{3}-[\w-]{16,}", r"EAAA[\w-]{30,}", r"EAACEdEose0cBA\w+", r"rzp_(?:live|test)_\w{10,}",
    r"EZ[AT]K\w{30,}", r"access_token\$\w+\$[\w$]{16,}", r"shp(?:at|ss|ca|pa|tka)_\w{20,}", r"PMAK-[\w-]{20,}",
    r"figd_[\w-]{20,}", r"lin_(?:api|oauth)_\w{20,}", r"(?:secret|ntn)_\w{30,}", r"sntry[su]_[\w=+/-]{20,}",
    r"gl(?:sa|c)_[\w=+/-]{20,}", r"NRAK-\w{16,}", r"NRII-[\w-]{16,}", r"PDUS\w{16,}",
    r"[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,}", r"\d{8,10}:AA[\w-]{30,}",
    r"hooks\.slack\.com/(?:services|workflows)/[\w/+-]+", r"discord(?:app)?\.com/api/webhooks/[\w/-]+",
    r"webhook\.office\.com/[\w@/-]+", r"secret-test-[\w-]{16,}",
    # standards
    r"eyJ[\w-]{8,1000}\.[\w-]{4,}(?:\.[\w-]*)?", r"MUNGE:[\w+/=]{10,}:?", r"\$2[abxy]\$\d\d\$[\w./]{50,}",
    r"\$(?:1|5|6|y|7|argon2\w*)\$[\w./$=,+-]{16,}", r"\{S?SHA\d*\}[\w+/=]{16,}",
)  # fmt: skip
"""Each a pattern of one issuer's tokens, which begin a word. If more has to follow a run of characters, the run
has a limit: a text of many such beginnings would take minutes. Sources: issuers' pages on their tokens, the patterns of
GitHub's secret scanning (docs.github.com, "Supported secret scanning patterns") and of gitleaks (config/gitleaks.toml).
"""
