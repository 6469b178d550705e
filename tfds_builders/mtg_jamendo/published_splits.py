"""What the data set's public repository says: tags, and its split files with sizes and sums.

Computed from the files of commit `COMMIT`. Tags stand in order of their code points, which is the
order of the repository's own lists (`data/tags/top50.txt`, `data/tags/moodtheme_split.txt`).
"""

from typing import NamedTuple

COMMIT = "1b4fa8c32e076c73b5175c1703ae805b4109309d"


def _tags(category: str, names: str) -> tuple[str, ...]:
    return tuple(f"{category}---{name}" for name in names.split())


GENRES = _tags(
    "genre",
    """
    60s 70s 80s 90s acidjazz alternative alternativerock ambient atmospheric blues bluesrock
    bossanova breakbeat celtic chanson chillout choir classical classicrock club contemporary
    country dance darkambient darkwave deephouse disco downtempo drumnbass dub dubstep
    easylistening edm electronic electronica electropop ethno eurodance experimental folk funk
    fusion groove grunge hard hardrock hiphop house idm improvisation indie industrial
    instrumentalpop instrumentalrock jazz jazzfusion latin lounge medieval metal minimal newage
    newwave orchestral pop popfolk poprock postrock progressive psychedelic punkrock rap reggae
    rnb rock rocknroll singersongwriter soul soundtrack swing symphonic synthpop techno trance
    triphop world worldfusion
    """,
)
INSTRUMENTS = _tags(
    "instrument",
    """
    accordion acousticbassguitar acousticguitar bass beat bell bongo brass cello clarinet
    classicalguitar computer doublebass drummachine drums electricguitar electricpiano flute
    guitar harmonica harp horn keyboard oboe orchestra organ pad percussion piano pipeorgan
    rhodes sampler saxophone strings synthesizer trombone trumpet viola violin voice
    """,
)
MOODS = _tags(
    "mood/theme",
    """
    action adventure advertising background ballad calm children christmas commercial cool
    corporate dark deep documentary drama dramatic dream emotional energetic epic fast film fun
    funny game groovy happy heavy holiday hopeful inspiring love meditative melancholic melodic
    motivational movie nature party positive powerful relaxing retro romantic sad sexy slow soft
    soundscape space sport summer trailer travel upbeat uplifting
    """,
)
_TOP50_GENRES = _tags(
    "genre",
    """
    alternative ambient atmospheric chillout classical dance downtempo easylistening electronic
    experimental folk funk hiphop house indie instrumentalpop jazz lounge metal newage
    orchestral pop popfolk poprock reggae rock soundtrack techno trance triphop world
    """,
)
_TOP50_INSTRUMENTS = _tags(
    "instrument",
    """
    acousticguitar bass computer drummachine drums electricguitar electricpiano guitar keyboard
    piano strings synthesizer violin voice
    """,
)
_TOP50_MOODS = _tags("mood/theme", "emotional energetic film happy relaxing")
TOP50 = (*_TOP50_GENRES, *_TOP50_INSTRUMENTS, *_TOP50_MOODS)


class SplitFile(NamedTuple):
    """A published split file.

    Attributes:
        number: of the split, 0 to 4.
        subset: "top50", "genre", "instrument" or "moodtheme".
        part: "train", "validation" or "test".
        num_tracks: rows below the header.
        size: in bytes.
        sha256: hexadecimal.
    """

    number: int
    subset: str
    part: str
    num_tracks: int
    size: int
    sha256: str

    @property
    def path(self) -> str:
        """Where it is in the repository."""
        subset = "top50tags" if self.subset == "top50" else self.subset
        return f"data/splits/split-{self.number}/autotagging_{subset}-{self.part}.tsv"


_ROWS = """
0 top50 train 32136 3742433 6dee445ddd1901286184c2059d3d5eef7486f083ae80de9011705f852a850dde
0 top50 validation 10888 1368240 4f5f0f0a7662f523b45727476f67d799d6e98151b2c585a8e94e19d980ad93c1
0 top50 test 11356 1349950 3ede06a35e6cb27e1dbe8cfc84708a607622e30e5cd0a7199fce6c081124bc35
0 genre train 32572 3352194 c1cddb195ef94a07e67e227bf38e2a79389c1820950702b8c8894a2096f21e54
0 genre validation 11043 1149174 3e203b4c573db6ec63a06c7066cf678dcf673a68ad5694c8fed22637c270dbcf
0 genre test 11479 1178477 cf917388eebfa7d17d363c2fca037e2379ac027e31aa6dbe92e8dbf409ac5098
0 instrument train 14395 1620241 f844a85f0b40bb31a5d5b448ddfc10a68d7b38ecc760673d23df2bd6e7ca0f4c
0 instrument validation 5466 739141 a5060020013ac5ba65c6470ee83fc2a9785db1fe554b55065de08aa9b0cca70d
0 instrument test 5115 591244 8c1ab86f3212b6484106baf2e78f70dd5520b917607487ac98999adbd5d7ab1a
0 moodtheme train 9949 994295 e5e9e798364b34bd241b773e5011809b24429edf471f27cf21dd8181077ba2d4
0 moodtheme validation 3802 367846 ecaa279367153476884d84d686479e566234cef1814bd6892a8755ba0a550dbf
0 moodtheme test 4231 421306 4341b5586bb3e5a80a882ce9ef33cb8b1bdaa7df856246ecc5de188dfe1cf394
1 top50 train 32395 3859495 3bd4a130665e8115184aa8c7c26a765acaa63794736c056af366edc265cfc23f
1 top50 validation 10619 1277522 b5394db077986e3099963d1c56b10c471528e34bf1c079f26d59982cff679478
1 top50 test 11366 1323606 a5e18db49729bd3dc63130a5b7fd3c550e22f6c86c5db794277dcf782c7e61d3
1 genre train 32746 3362432 7fe00dcdb1e342f87d56c77cbde3b227f381f677682a20374a39ea28381019f3
1 genre validation 10833 1139047 aedf2199ba338db33e1bacaa79030c43b76c3a455da5e5022a68c7a3f1d8b6dd
1 genre test 11515 1178366 bd550f0dea6842c7301cb9a68b71aa5900c1094a7ccccdff71cbd12280f9f415
1 instrument train 14943 1801519 f5bfec3e615c0a58f8d3d10b120623c900ba5b6a778e7570dc0a21e76a96c58c
1 instrument validation 4960 566438 58f604ff6bac7ece774e0b2d5a61b08361352c8b913a57a961c3ec309e467081
1 instrument test 5073 582669 d534a4862d2aa832a1a44710a9a66d387b8c7dcc4fa89f29a319db3951f171e7
1 moodtheme train 10190 995697 9468ad34941885a85d6c44de41091ce5d794286c2e576da2f84bae8a1285c39b
1 moodtheme validation 3594 367892 46172bb1e223e0adffbecfb0764c2bffd2b5c039a513a0768c3f723a258b8f80
1 moodtheme test 4198 419858 19a1cc3d37faef2d9e952c6eaaf8bf34b825416553f237bc0e5855626ce0bb43
2 top50 train 32010 3834107 bfdad32875b508863c8f5f3021cbdec58cab435d97343fde29c315aef4b40e19
2 top50 validation 11961 1387898 925e17ca6b579d676ff4f611c9db54990266ddc5a09736a680b317391032e870
2 top50 test 10409 1238618 44f0d2c3ffe7f657b6453ed219b2cd21403cef39905084c37399721d259cff3e
2 genre train 32360 3345785 efa43e3a73f39f4f87e68cf7d889b86ec25145cfde3d6487400107c59a699025
2 genre validation 12185 1256502 8e151e0fa4800f8744e2efc676918c2e397e6775939624d286e8a5aba99cbaf8
2 genre test 10549 1077558 9177b492ccd2d8076ffcf4622328fbc80cf59be9071355650a1c19cdb357765d
2 instrument train 14702 1771013 bfab4e40ccaea643661c2cc00c94337acf6ca9a196f030b4c060d493dc28d6b8
2 instrument validation 5066 572566 baff5a7b9256d7d471652af36d39e777c71ed1a7b352b7a91acea406b69dfc29
2 instrument test 5208 607047 6d156620287481bbc64ab35a8caabab7837d4767b4f4b110d289113a2c2fc240
2 moodtheme train 10484 1048349 41e689d69f6db29baaf137be504891c410babeec9c427818062e2dabb007b3f6
2 moodtheme validation 4085 404287 ac1c80914eb8aa7667149bad0c0698486eafb379c88c75bfe92e4d0bd052b8b7
2 moodtheme test 3413 330811 546e17cb7d451855e85ddc07acfdebe2484042cb22641832f2605cc23f1e2925
3 top50 train 33173 3878167 6be5a56a1823cc1fa8b12c908908a6595e9ee692fa0d805e667c0becb9de20d6
3 top50 validation 10468 1315147 ad1aec2bfc0f1c346a266a320bdb382242ec3701e91e183026e121cf901d94c9
3 top50 test 10739 1267309 f18f37b4eb83828aae406176c52f00d26bffe03cf4875b3f2c45dd5d4fbb6ae7
3 genre train 33515 3458924 ffd1c5bcdc32335da970ba4fdee6e71df8c6fac0ac3892f89dec34bf795e6e9f
3 genre validation 10656 1092080 4a935f4956ea6121865b83550a5ac76b10f88aff18533a8f138085772e5cdec9
3 genre test 10923 1128841 110dd6fca7160d2a8396bd5b62a609e2ec100302d0ba69d1cd31d495973fbf39
3 instrument train 14875 1668381 1f98b96506e7d6ab4d9e0623788fc170a096cf48055bfc218a6125bfe9bf1755
3 instrument validation 5068 715966 91edb348e1ef5946fe6d0c019cf5dbc6a84d3b38f4686043a017a9634144a96f
3 instrument test 5033 566279 c6bf28a4172a7a020ec50ea0c5606956341f1951b43d6d80266abea3a036c09f
3 moodtheme train 10920 1090387 8e6da99d9d2ce280e7760ce161ad82ef8b1314e4dd24d6293963240353d3b7bb
3 moodtheme validation 3500 345906 aba5d92b96987f14c1542cf4657062a8236df7d4817fac25b08d8a34c5ecf8e8
3 moodtheme test 3562 347154 ea406baf33a2134ee25a4141ec6287029e52ab8e0f4bd34fc024df74e7cee4e4
4 top50 train 30868 3695312 6db11dfda8c5d5c8b3a3758fb2a9fd588d7b354cafd4bbba7d6aab8644c68ad7
4 top50 validation 11593 1360091 a09b38e3d5dca348d28edfacd7c166e4b9d19ba6d90c0d94f996ee4820c4383f
4 top50 test 11919 1405220 c523cf03c2fca914509ef11103047a026c99f14e7fdd3f4d36ee61b65484563f
4 genre train 31305 3237404 e4ea2b56d0f66845c65aba40c43ff3d71724f8c9769c96b6bee512ae7c6311a1
4 genre validation 11804 1198135 30ca5cb964b2538b65a626303763410f3ed392e866cb4c602d8ca41f94676bef
4 genre test 11985 1244306 7e736624157e32cbca41e68978b78e9eaac5222d9f428cc572fe00c28ec3a4b1
4 instrument train 14829 1766817 256d339d4244eb86d44cc060d8233e7178cb8e3e2758fed321727ce345d7b097
4 instrument validation 5159 617287 47909d5530a96f2313f47523c235f740c866361b997c8b59df423f00462dc587
4 instrument test 4988 566522 dad344936e53391ad0016f484ac5c2bdd2d98a1bfa91102968b7c477f222910f
4 moodtheme train 10241 1010824 3e81e6b3abde41b8f64b942c075876c03ee8952ca7a47f953602ae226dd5e3af
4 moodtheme validation 3706 367951 b5969fd8a3b15d285337aec6b9fc96a95cb3fead214165eaeeac9940dc9335e3
4 moodtheme test 4035 404672 f7799ee74a7d4703b9de5f177f9897177a7accdb5f84e915eddd89c50ce965e9
"""

SPLIT_FILES = tuple(
    SplitFile(int(number), subset, part, int(num_tracks), int(size), sha256)
    for number, subset, part, num_tracks, size, sha256 in map(str.split, _ROWS.strip().splitlines())
)
