import java.io.*;
import java.net.URI;
import java.net.http.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.stream.*;

/** The calls of http.py with Java's own client. */
public class Http {
    static final String BASE = "http://httpbin.org";
    static final HttpClient CLIENT =
        HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();

    static HttpRequest.Builder to(String path) {
        return HttpRequest.newBuilder(URI.create(BASE + path));
    }

    static HttpResponse<String> send(HttpRequest request) throws Exception {
        return CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
    }

    static String field(String json, String name) {
        String start = "\"" + name + "\": \"";
        int at = json.indexOf(start) + start.length();
        return json.substring(at, json.indexOf('"', at));
    }

    public static void main(String[] words) throws Exception {
        HttpResponse<String> answer = send(to("/get?name=value").build());
        System.out.println("get " + answer.statusCode() + " " + field(answer.body(), "name"));
        byte[] piece = "x".repeat(1000).getBytes();
        List<byte[]> pieces = Collections.nCopies(100, piece);
        answer = send(to("/post").POST(HttpRequest.BodyPublishers.ofByteArrays(pieces)).build());
        System.out.println("post " + answer.statusCode() + " " + field(answer.body(), "data").length());
        System.out.println("status " + send(to("/status/418").build()).statusCode());
        answer = send(to("/redirect/2").build());
        System.out.println("redirect " + answer.statusCode() + " " + answer.uri().getPath());
        answer = send(to("/stream/20").build());
        System.out.println("stream " + answer.statusCode() + " " + answer.body().lines().count());
        List<CompletableFuture<String>> all = IntStream.range(0, 20).mapToObj(n ->
            CLIENT.sendAsync(to("/anything/" + n).build(), HttpResponse.BodyHandlers.ofString())
                .thenApply(one -> field(one.body(), "url"))).collect(Collectors.toList());
        Set<String> urls = all.stream().map(CompletableFuture::join).collect(Collectors.toSet());
        System.out.println("parallel " + urls.size());
    }
}
