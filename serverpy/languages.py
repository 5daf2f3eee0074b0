"""Languages by tag (BCP 47, RFC 5646). A tag begins with the shortest code of the language, for example `en`. Manifests
and playlists also have the codes of three letters, for example `eng`, because MP4 has them. The module does no I/O."""

from __future__ import annotations

_CODES = """
aa aar, ab abk, ae ave, af afr, ak aka, am amh, an arg, ar ara, as asm, av ava, ay aym, az aze, ba bak, be bel, bg
bul, bh bih, bi bis, bm bam, bn ben, bo bod tib, br bre, bs bos, ca cat, ce che, ch cha, co cos, cr cre, cs ces
cze, cu chu, cv chv, cy cym wel, da dan, de deu ger, dv div, dz dzo, ee ewe, el ell gre, en eng, eo epo, es spa, et
est, eu eus baq, fa fas per, ff ful, fi fin, fj fij, fo fao, fr fra fre, fy fry, ga gle, gd gla, gl glg, gn grn, gu
guj, gv glv, ha hau, he heb, hi hin, ho hmo, hr hrv, ht hat, hu hun, hy hye arm, hz her, ia ina, id ind, ie ile, ig
ibo, ii iii, ik ipk, io ido, is isl ice, it ita, iu iku, ja jpn, jv jav, ka kat geo, kg kon, ki kik, kj kua, kk
kaz, kl kal, km khm, kn kan, ko kor, kr kau, ks kas, ku kur, kv kom, kw cor, ky kir, la lat, lb ltz, lg lug, li
lim, ln lin, lo lao, lt lit, lu lub, lv lav, mg mlg, mh mah, mi mri mao, mk mkd mac, ml mal, mn mon, mr mar, ms msa
may, mt mlt, my mya bur, na nau, nb nob, nd nde, ne nep, ng ndo, nl nld dut, nn nno, no nor, nr nbl, nv nav, ny
nya, oc oci, oj oji, om orm, or ori, os oss, pa pan, pi pli, pl pol, ps pus, pt por, qu que, rm roh, rn run, ro ron
rum, ru rus, rw kin, sa san, sc srd, sd snd, se sme, sg sag, si sin, sk slk slo, sl slv, sm smo, sn sna, so som, sq
sqi alb, sr srp, ss ssw, st sot, su sun, sv swe, sw swa, ta tam, te tel, tg tgk, th tha, ti tir, tk tuk, tl tgl, tn
tsn, to ton, tr tur, ts tso, tt tat, tw twi, ty tah, ug uig, uk ukr, ur urd, uz uzb, ve ven, vi vie, vo vol, wa
wln, wo wol, xh xho, yi yid, yo yor, za zha, zh zho chi, zu zul
"""
"""The languages that have a code of two letters (ISO 639-1), each followed by its codes of three letters: that of ISO
639-2/T, and that of ISO 639-2/B if the two differ."""
_RETIRED = {"in": "id", "iw": "he", "ji": "yi", "jw": "jv", "mo": "ro", "mol": "ro"}
"""Codes that are no longer valid, and the codes that have replaced them."""
_SHORTEST = {code: codes[0] for codes in map(str.split, _CODES.split(",")) for code in codes[1:]} | _RETIRED


def normalized(tag: str) -> str:
    """Return `tag` in lower case, with hyphens, and with the shortest code of its language: `en-us` for `eng_US`. Tags
    of the same meaning become equal."""
    language, hyphen, rest = tag.strip().lower().replace("_", "-").partition("-")
    return _SHORTEST.get(language, language) + hyphen + rest


def codes_of(language: str) -> tuple[str, ...]:
    """Return all codes of a language that is given by its shortest code: `de`, `deu` and `ger` for `de`."""
    return language, *(code for code, shortest in _SHORTEST.items() if shortest == language)
