// The C library's resolver, by way of Java, and Java's own.
import java.net.InetAddress;
import java.util.Hashtable;
import javax.naming.directory.InitialDirContext;

public class Lookup {
    public static void main(String[] names) throws Exception {
        for (String name : names) {
            for (InetAddress address : InetAddress.getAllByName(name)) {
                System.out.println("lookup " + name + " " + address.getHostAddress());
            }
            Hashtable<String, String> settings = new Hashtable<>();
            settings.put("java.naming.factory.initial", "com.sun.jndi.dns.DnsContextFactory");
            settings.put("java.naming.provider.url", "dns:");
            var records = new InitialDirContext(settings).getAttributes(name, new String[] {"A"});
            System.out.println("own " + name + " " + records.get("A").get());
        }
    }
}
